package disk_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/disk"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

const (
	mib     = int64(1) << 20
	cluster = "cluster-a"
	machine = "0123456789abcdef0123456789abcdef"
	// diskBytes is the size of a disk unless a test says otherwise: it costs what is written to it.
	diskBytes = 1024 * mib
	// taken is what of a disk is not for volumes: the metadata, and a mebibyte at either end.
	taken = 18 * mib
)

// sectors are the sector sizes that disks have.
func sectors() []int { return []int{512, 4096} }

// run runs a tool that prepares or looks at a test and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// drive is a disk on a loop device.
type drive struct {
	t      testing.TB
	image  string
	path   string
	sector int
}

// newDrive makes a disk of zeroes. The kernel doesn't scan it for partitions.
func newDrive(t testing.TB, size int64, sector int) *drive {
	t.Helper()
	d := &drive{t: t, image: filepath.Join(memory(t), "disk.img"), sector: sector}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, size))
	d.plug()
	t.Cleanup(func() {
		if d.path != "" {
			d.pull()
		}
	})
	return d
}

// memory mounts a tmpfs.
func memory(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4g"))
	t.Cleanup(func() {
		// Lazily: the kernel may let go of a loop device, and so of its image, a little later.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// plug attaches the disk, under a name that may be another one than before.
func (d *drive) plug() {
	d.t.Helper()
	d.path = run(d.t, "losetup", "-f", "--show", "--sector-size", strconv.Itoa(d.sector), d.image)
}

// pull takes the disk away with its partitions, none of which may be in use.
func (d *drive) pull() {
	d.t.Helper()
	for _, n := range d.devices() {
		run(d.t, "delpart", d.path, strings.TrimPrefix(n, filepath.Base(d.path)+"p"))
	}
	run(d.t, "losetup", "-d", d.path)
	d.path = ""
}

// devices are the names of the disk's partitions that the kernel has.
func (d *drive) devices() []string {
	all, err := filepath.Glob("/sys/block/" + filepath.Base(d.path) + "/" + filepath.Base(d.path) + "p*")
	must(d.t, err)
	for i, path := range all {
		all[i] = filepath.Base(path)
	}
	return all
}

// table is what sfdisk says of the disk's partitions.
func (d *drive) table() string {
	d.t.Helper()
	return run(d.t, "sfdisk", "--list", "--output", "Start,Sectors,Name,UUID", d.path)
}

// partitions are how many the table has beside the metadata.
func (d *drive) partitions() int {
	d.t.Helper()
	return strings.Count(run(d.t, "sfdisk", "--dump", d.path), "start=") - 1
}

// config is that of a datastore "fast" on those disks. Each call has claims of its own.
func config(drives ...*drive) datastore.Config {
	loops, err := loop.New(loop.Config{})
	if err != nil {
		panic(err)
	}
	spec := &v1alpha1.DiskSpec{}
	for _, d := range drives {
		spec.Devices = append(spec.Devices, d.path)
	}
	return datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec:       v1alpha1.DatastoreSpec{Type: v1alpha1.TypeDisk, Disk: spec},
		},
		ClusterID: cluster, MachineID: machine, Claims: &datastore.Claims{},
		Tools: datastore.Tools{Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	}
}

// open opens the pool of a configuration.
func open(t testing.TB, c datastore.Config) datastore.Pool {
	t.Helper()
	p, err := disk.Type().New(t.Context(), c)
	must(t, err)
	return p
}

// raw is a raw block volume.
func raw(id string, size int64) datastore.Volume {
	return datastore.Volume{
		ID: id, Name: id, UID: uuid.NewSHA1(uuid.Nil, []byte(id)).String(), ClusterID: cluster, Bytes: size,
		Labels:       map[string]string{"csi.storage.k8s.io/pvc/name": "data"},
		Provisioning: v1alpha1.Thick, Format: v1alpha1.FormatDevice, Access: v1alpha1.Block,
		Modes: []string{"SINGLE_NODE_WRITER"}, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// formatted gives a volume a file system.
func formatted(v datastore.Volume, fsType string) datastore.Volume {
	v.Access = v1alpha1.Filesystem
	v.Filesystem = &v1alpha1.FilesystemSpec{Type: fsType, UUID: uuid.NewString()}
	return v
}

func create(t testing.TB, p datastore.Pool, v datastore.Volume) datastore.Made {
	t.Helper()
	made, err := p.Create(t.Context(), v, nil, nil)
	must(t, err)
	return made
}

// attach opens a volume for writing and returns the path of its device.
func attach(t testing.TB, p datastore.Pool, v datastore.Volume) string {
	t.Helper()
	o, err := p.Open(t.Context(), v, false)
	must(t, err)
	return o.Device
}

func detach(t testing.TB, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	must(t, p.Close(t.Context(), v))
}

// remove deletes a volume and waits for its space.
func remove(t testing.TB, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.DeleteData}))
	must(t, p.Reclaim(t.Context()))
}

// mount mounts a device for the rest of the test, unless it is unmounted before.
func mount(t testing.TB, device, fsType string, options string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	must(t, unix.Mount(device, dir, fsType, 0, options))
	done := false
	unmount = func() {
		if !done {
			done = true
			must(t, unix.Unmount(dir, 0))
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// write writes a pattern over a whole device, and read tells whether all of it is there.
func write(t testing.TB, device, seed string, size int64) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	for at := int64(0); at < size; at += mib {
		_, err := f.WriteAt(pattern(seed, at), at)
		must(t, err)
	}
	must(t, f.Sync())
}

func pattern(seed string, at int64) []byte {
	line := fmt.Appendf(nil, "%-20s%12d", seed, at)
	return bytes.Repeat(line, int(mib)/len(line))
}

// holds tells whether a device holds the pattern of a seed, or, where that is "", zeroes.
func holds(t testing.TB, device, seed string, from, to int64) bool {
	t.Helper()
	f, err := os.Open(device)
	must(t, err)
	defer f.Close()
	b := make([]byte, mib)
	for at := from; at < to; at += mib {
		_, err := f.ReadAt(b, at)
		must(t, err)
		want := make([]byte, mib)
		if seed != "" {
			want = pattern(seed, at)
		}
		if !bytes.Equal(b, want) {
			return false
		}
	}
	return true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, want fault.Kind, says ...string) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("got %v (%v), want an error of kind %v", err, fault.KindOf(err), want)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func status(t testing.TB, p datastore.Pool) datastore.Status {
	t.Helper()
	s, err := p.Status(t.Context())
	must(t, err)
	return s
}
