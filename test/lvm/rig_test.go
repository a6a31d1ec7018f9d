package lvm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	pools "github.com/datastore-csi/datastore-csi/pkg/datastore/lvm"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// rig is a datastore of type lvm on this machine, called as the agent does.
type rig struct {
	t *testing.T
	*machine
	config datastore.Config
	kind   datastore.Type
	datastore.Pool
}

const cluster = "11111111-2222-3333-4444-555555555555"

// newRig makes a datastore whose group is made of so many disks. change alters the datastore before it is opened.
func newRig(t *testing.T, count int, change func(*v1alpha1.Datastore)) *rig {
	t.Helper()
	cleanDisks(t)
	t.Cleanup(func() { cleanDisks(t) })
	d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	d.Spec.Type = v1alpha1.TypeLVM
	d.Spec.LVM = &v1alpha1.LVMSpec{VolumeGroup: "vg", Devices: disks()[:count], Provision: v1alpha1.ProvisionIfEmpty}
	if change != nil {
		change(d)
	}
	d.SetDefaults()
	m := newMachine()
	loops, err := loop.New(loop.Config{})
	must(t, err)
	r := &rig{t: t, machine: m, kind: pools.Type(), config: datastore.Config{
		Datastore: d, ClusterID: cluster, MachineID: "0123456789abcdef0123456789abcdef", Host: "node-1", Claims: &datastore.Claims{},
		Tools: datastore.Tools{Command: m.runner, Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	}}
	r.open()
	return r
}

// open opens the pool as a process does that has just begun.
func (r *rig) open() {
	r.t.Helper()
	r.kind = pools.Type()
	must(r.t, r.reopen())
}

func (r *rig) reopen() error {
	r.config.Claims = &datastore.Claims{}
	p, err := r.kind.New(r.t.Context(), r.config)
	if err == nil {
		r.Pool = p
	}
	return err
}

func thin(d *v1alpha1.Datastore) {
	d.Spec.LVM.ThinPool = &v1alpha1.ThinPoolSpec{Name: "pool"}
}

// volume returns one that could be asked for.
func (r *rig) volume(name string, bytes int64, fs string) datastore.Volume {
	v := datastore.Volume{
		ID: name, Name: name, UID: uuid.NewString(), ClusterID: cluster, Bytes: bytes, Format: v1alpha1.FormatDevice, Access: v1alpha1.Block,
		Provisioning: r.config.Datastore.Spec.Volumes.Provisioning, Modes: []string{"SINGLE_NODE_WRITER"}, Created: time.Now().UTC(),
		Labels:     map[string]string{"datastore-csi.io/pvc-name": "data", "datastore-csi.io/pvc-namespace": "shop", "other/label": ""},
		Parameters: map[string]string{"datastore": "fast", "empty": ""},
	}
	if fs != "" {
		v.Access = v1alpha1.Filesystem
		v.Filesystem = &v1alpha1.FilesystemSpec{Type: fs, UUID: uuid.NewString()}
	}
	return v
}

func (r *rig) create(v datastore.Volume) datastore.Made {
	r.t.Helper()
	made, err := r.Create(r.t.Context(), v, nil, nil)
	must(r.t, err)
	return made
}

func (r *rig) remove(v datastore.Volume) {
	r.t.Helper()
	must(r.t, r.Delete(r.t.Context(), v, datastore.Disposal{Policy: v1alpha1.DeleteData, Wipe: v.Wipe}))
}

func (r *rig) opened(v datastore.Volume) datastore.Opened {
	r.t.Helper()
	o, err := r.Open(r.t.Context(), v, false)
	must(r.t, err)
	return o
}

func (r *rig) closed(v datastore.Volume) {
	r.t.Helper()
	must(r.t, r.Close(r.t.Context(), v))
}

// snap takes a snapshot of a volume.
func (r *rig) snap(name string, of datastore.Volume, size v1alpha1.ShareOrBytes) datastore.Volume {
	r.t.Helper()
	s := of
	s.ID, s.Name, s.UID, s.Snapshot, s.SourceID, s.SnapshotSize = name, name, uuid.NewString(), true, of.ID, size
	made, err := r.Snapshot(r.t.Context(), of, s, nil)
	must(r.t, err)
	if made.TakenAt.IsZero() || made.Promised < 0 {
		r.t.Errorf("snapshot %+v", made)
	}
	return s
}

func (r *rig) clone(name string, of datastore.Volume, bytes int64) datastore.Volume {
	r.t.Helper()
	fs := ""
	if of.Filesystem != nil {
		fs = of.Filesystem.Type
	}
	v := r.volume(name, bytes, fs)
	_, err := r.Create(r.t.Context(), v, &of, func(done, total int64) {
		if done < 0 || done > total {
			r.t.Errorf("%d of %d copied", done, total)
		}
	})
	must(r.t, err)
	return v
}

// found returns what List finds, by state and ID.
func (r *rig) found() map[string]datastore.Found {
	r.t.Helper()
	all, err := r.List(r.t.Context())
	must(r.t, err)
	out := map[string]datastore.Found{}
	for _, f := range all {
		out[string(f.State)+" "+f.Volume.Key()] = f
	}
	return out
}

func (r *rig) status() datastore.Status {
	r.t.Helper()
	s, err := r.Status(r.t.Context())
	must(r.t, err)
	return s
}

// fill writes a pattern over all of a device, and returns its sum.
func fill(t testing.TB, path string, seed byte) string {
	t.Helper()
	f, err := blockdev.Open(path, blockdev.Mode{Write: true})
	must(t, err)
	size, err := blockdev.SizeOf(f)
	must(t, err)
	sum := sha256.New()
	for at := int64(0); at < size; at += mib {
		b := bytes.Repeat([]byte{seed, byte(at / mib), 'S', 'E', 'C', 'R', 'E', 'T'}, int(min(mib, size-at)/8))
		_, err := f.WriteAt(b, at)
		must(t, err)
		sum.Write(b)
	}
	must(t, f.Sync())
	must(t, f.Close())
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// sum is that of the first bytes of a device.
func sum(t testing.TB, path string, size int64) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, size))
	if err != nil || n != size {
		t.Fatalf("read %d of %d bytes of %s: %v", n, size, path, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// zeroes tells whether a device reads as zeroes from an offset on.
func zeroes(t testing.TB, path string, from int64) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	_, err = f.Seek(from, io.SeekStart)
	must(t, err)
	b := make([]byte, mib)
	for {
		n, err := f.Read(b)
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			return false
		}
		if err == io.EOF {
			return true
		}
		must(t, err)
	}
}

// mounted mounts a device for as long as do runs.
func mounted(t testing.TB, device string, do func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", device, dir)
	do(dir)
	run(t, "umount", dir)
}
