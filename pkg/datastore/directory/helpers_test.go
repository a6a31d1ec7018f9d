package directory_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

const (
	mib     = int64(1) << 20
	gib     = int64(1) << 30
	cluster = "cluster-a"
	machine = "0123456789abcdef0123456789abcdef"
)

func filesystems() []string { return []string{"ext4", "xfs", "btrfs"} }

// run runs a tool that prepares or looks at a test and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk mounts a new file system of that many bytes on a folder, for as long as the test lasts.
func disk(t testing.TB, fsType string, size int64, mkfs ...string) string {
	t.Helper()
	dir := t.TempDir()
	mount(t, newImage(t, fsType, size, mkfs...), dir)
	return dir
}

// newImage makes a file system in a file that lies in memory.
func newImage(t testing.TB, fsType string, size int64, mkfs ...string) string {
	t.Helper()
	image := filepath.Join(memory(t, size+size/8+16*mib), "disk")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	run(t, "mkfs."+fsType, append(append([]string{"-q"}, mkfs...), image)...)
	return image
}

// memory mounts a tmpfs.
func memory(t testing.TB, size int64) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	t.Cleanup(func() {
		// Lazily: the kernel may let go of a loop device, and so of its image, a little later.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// mount mounts a file system's image. The loop device goes with the mount.
func mount(t testing.TB, image, dir string) {
	t.Helper()
	loops, err := loop.New(loop.Config{})
	must(t, err)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	device, err := loops.Attach(t.Context(), f, loop.Options{Discard: true})
	must(t, err)
	run(t, "mount", device.Path, dir)
	must(t, loops.Detach(t.Context(), f))
	t.Cleanup(func() {
		for _, device := range attachedUnder(dir) {
			t.Errorf("%s is still attached to an image in %s", device, dir)
			run(t, "losetup", "-d", device)
		}
		if mounted(dir) {
			runtime.GC() // closes what calls had open that "died" in this process
			unmount(t, dir)
		}
	})
}

// unmount outlasts what holds a mount for a moment only: a program that is being started has all that is open here.
func unmount(t testing.TB, dir string) {
	t.Helper()
	limit, tick := time.After(time.Minute), time.Tick(10*time.Millisecond)
	for err := unix.Unmount(dir, 0); err != nil; err = unix.Unmount(dir, 0) {
		select {
		case <-limit:
			t.Fatalf("unmount %s: %v", dir, err)
		case <-tick:
		}
	}
}

func mounted(dir string) bool { return exec.Command("mountpoint", "-q", dir).Run() == nil }

// attachedUnder lists the loop devices of images in a folder.
func attachedUnder(dir string) []string {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	var devices []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), dir+"/") {
			devices = append(devices, "/dev/"+strings.Split(f, "/")[3])
		}
	}
	return devices
}

// config is that of a datastore "fast" at that path. Each call has claims of its own.
func config(t testing.TB, path string) datastore.Config {
	t.Helper()
	c, err := configOf(path)
	must(t, err)
	return c
}

func configOf(path string) (datastore.Config, error) {
	loops, err := loop.New(loop.Config{})
	return datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec:       v1alpha1.DatastoreSpec{Type: v1alpha1.TypeDirectory, Directory: &v1alpha1.DirectorySpec{Path: path}},
		},
		ClusterID: cluster, MachineID: machine, Claims: &datastore.Claims{},
		Tools: datastore.Tools{Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	}, err
}

// open opens the pool of a configuration.
func open(t testing.TB, c datastore.Config) datastore.Pool {
	t.Helper()
	p, err := directory.Type().New(t.Context(), c)
	must(t, err)
	return p
}

// newPool opens a new pool on a path.
func newPool(t testing.TB, path string) datastore.Pool {
	t.Helper()
	return open(t, config(t, path))
}

// thin is a thin raw block volume.
func thin(id string, size int64) datastore.Volume {
	return datastore.Volume{
		ID: id, Name: id, UID: uuid.NewSHA1(uuid.Nil, []byte(id)).String(), ClusterID: cluster, Bytes: size,
		Labels:       map[string]string{"csi.storage.k8s.io/pvc/name": "data"},
		Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage, Access: v1alpha1.Block,
		Modes: []string{"SINGLE_NODE_WRITER"}, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func thick(id string, size int64) datastore.Volume {
	v := thin(id, size)
	v.Provisioning = v1alpha1.Thick
	return v
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

// imageOf is the path of a volume's image.
func imageOf(path string, v datastore.Volume) string {
	return filepath.Join(path, "volumes", v.BackendName(), "disk.img")
}

// allocated is what a file takes on the storage, with what is not written yet.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
	info := run(t, "stat", "-c", "%b", path)
	var blocks int64
	for _, digit := range info {
		blocks = blocks*10 + int64(digit-'0')
	}
	return blocks * 512
}

// under lists all files beneath a folder with their sizes, except the kinds that a file system has of its own.
func under(t testing.TB, path string) string {
	t.Helper()
	return run(t, "find", path, "-not", "-path", "*/lost+found*", "-printf", "%P %y %s\n")
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

func put(t testing.TB, content string, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, []byte(content), 0o644))
	return p
}

func content(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return string(b)
}

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

// pattern is data that no file system makes by itself.
func pattern(n int64) []byte { return bytes.Repeat([]byte("datastore"), int(n/9)+1)[:n] }
