package partition_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

const (
	mib = int64(1) << 20

	diskBytes = 512 * mib
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%v: %v, want %v", fault.KindOf(err), err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error doesn't say %q: %v", w, err)
		}
	}
}

// do runs a tool of the test's own.
func do(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// rig is a host with a disk, which a link names, and folders of a driver.
type rig struct {
	t     *testing.T
	dir   string
	image string
	// link is the stable name of the disk.
	link   string
	claims datastore.Claims
	spec   v1alpha1.DatastoreSpec
	uuid   string
}

// newRig returns a host with a blank disk.
func newRig(t *testing.T, fsType string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, image: filepath.Join(dir, "disk.img"), link: filepath.Join(dir, "by-id")}
	r.spec = v1alpha1.DatastoreSpec{Type: v1alpha1.TypePartition, Partition: &v1alpha1.PartitionSpec{
		Device: r.link, FSType: fsType, Provision: v1alpha1.ProvisionIfEmpty,
	}}
	must(t, os.WriteFile(r.image, nil, 0o600))
	must(t, os.Truncate(r.image, diskBytes))
	t.Cleanup(func() {
		r.unmount()
	})
	r.connect(r.image)
	return r
}

// patiently tries again for a while: what another test's program holds while it starts is busy.
func (r *rig) patiently(try func() error) {
	r.t.Helper()
	limit, tick := time.NewTimer(time.Minute), time.NewTicker(10*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for err := try(); err != nil; err = try() {
		select {
		case <-limit.C:
			r.t.Fatal(err)
		case <-tick.C:
		}
	}
}

// unmount takes off what the driver mounted, as a reboot does.
func (r *rig) unmount() {
	r.t.Helper()
	for _, name := range []string{"fast", "fast.look", "other"} {
		r.patiently(func() error {
			err := unix.Unmount(r.mountedAt(name), 0)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		})
	}
}

// zero overwrites the disk, or a part of it, with zeroes.
func (r *rig) zero(part ...string) {
	r.t.Helper()
	r.patiently(func() error {
		out, err := exec.CommandContext(r.t.Context(), "blkdiscard", append(append([]string{"-z"}, part...), r.device())...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
}

// connect makes an image the disk.
func (r *rig) connect(image string) (device string) {
	r.t.Helper()
	device = do(r.t, "losetup", "-f", "--show", image)
	do(r.t, "blockdev", "--setrw", device)
	r.t.Cleanup(func() { _ = exec.Command("losetup", "-d", device).Run() })
	r.point(device)
	return device
}

// point makes the stable name lead to a device.
func (r *rig) point(device string) {
	r.t.Helper()
	if err := os.Remove(r.link); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	must(r.t, os.Symlink(device, r.link))
}

// device is the one that the stable name leads to.
func (r *rig) device() string {
	to, err := os.Readlink(r.link)
	must(r.t, err)
	return to
}

func (r *rig) mountedAt(name string) string { return filepath.Join(r.dir, "mounts", name) }

// configOf is a driver's that keeps its folders in one.
func configOf(dir string, spec v1alpha1.DatastoreSpec, name string) (datastore.Config, error) {
	loops, err := loop.New(loop.Config{})
	return datastore.Config{
		Datastore: &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec.DeepCopy()},
		ClusterID: "cluster-a", MachineID: "0123456789abcdef0123456789abcdef", Host: "host-1",
		Tools: datastore.Tools{
			Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString,
			MountDir: filepath.Join(dir, "mounts"), StateDir: filepath.Join(dir, "state"),
		},
	}, err
}

func (r *rig) config(name string) datastore.Config {
	c, err := configOf(r.dir, r.spec, name)
	must(r.t, err)
	c.PoolUUID, c.Claims = r.uuid, &r.claims
	return c
}

// open opens the datastore as a driver that has just started.
func (r *rig) open() (datastore.Pool, error) {
	r.t.Helper()
	return partition.Type().New(r.t.Context(), r.config("fast"))
}

func (r *rig) opened() datastore.Pool {
	r.t.Helper()
	p, err := r.open()
	must(r.t, err)
	return p
}

// signature is what the disk bears.
func (r *rig) signature() string {
	r.t.Helper()
	out, _ := exec.CommandContext(r.t.Context(), "blkid", "-p", "-o", "export", r.image).Output()
	return string(out)
}

func image(id string) datastore.Volume {
	return datastore.Volume{
		ID: id, Name: id, UID: uuid.NewSHA1(uuid.Nil, []byte(id)).String(), ClusterID: "cluster-a", Bytes: 16 * mib,
		Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage, Access: v1alpha1.Block, Modes: []string{"SINGLE_NODE_WRITER"},
	}
}

func create(t *testing.T, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	_, err := p.Create(t.Context(), v, nil, nil)
	must(t, err)
}

func holds(t *testing.T, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	_, err := p.Find(t.Context(), v)
	must(t, err)
}

func eachType(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) { test(t, newRig(t, fsType)) })
	}
}

// deactivate switches the datastore off.
func deactivate(t *testing.T, p datastore.Pool) error {
	t.Helper()
	return p.(interface {
		Deactivate(context.Context) error
	}).Deactivate(t.Context())
}
