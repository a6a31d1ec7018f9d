package file_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// run runs a tool that prepares a test and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk mounts a new file system on a folder; it is unmounted when the test ends.
func disk(t testing.TB, fsType string, mib int64) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, mib<<20))
	run(t, "mkfs."+fsType, "-q", image)
	loops, err := loop.New(loop.Config{})
	must(t, err)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	device, err := loops.Attach(t.Context(), f, loop.Options{Discard: true})
	must(t, err)
	run(t, "mount", device.Path, dir)
	must(t, loops.Detach(t.Context(), f)) // it goes with the mount
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// bind mounts one folder or file on another until the test ends.
func bind(t testing.TB, from, to string) {
	t.Helper()
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(to, unix.UMOUNT_NOFOLLOW)) })
}

func openRoot(t testing.TB, path string) *file.Root {
	t.Helper()
	r, err := file.OpenRoot(path)
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

// put writes a file, with the folders that it needs.
func put(t testing.TB, content string, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, []byte(content), 0o644))
	return p
}

func mkdir(t testing.TB, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	must(t, os.MkdirAll(p, 0o755))
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return string(b)
}

func wantKind(t testing.TB, err error, want fault.Kind) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("got %v (%v), want an error of kind %v", err, fault.KindOf(err), want)
	}
}

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

// descriptors counts this process's open ones.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}
