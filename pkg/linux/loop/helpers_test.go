package loop_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager makes a Manager that looks at this machine.
func manager(t testing.TB) *loop.Manager {
	t.Helper()
	m, err := loop.New(loop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// image makes a sparse file of that size in bytes in dir, and sees to it that it is detached in the end.
func image(t testing.TB, dir string, size int64) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, "*.img")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range devices(t, f) {
			fd, err := unix.Open(fmt.Sprintf("/dev/loop%d", n), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				err = errors.Join(unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0), unix.Close(fd))
			}
			if err != nil {
				t.Errorf("clean up loop%d: %v", n, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return f
}

// attach fails the test where Attach does.
func attach(t testing.TB, m *loop.Manager, f *os.File, o loop.Options) loop.Device {
	t.Helper()
	d, err := m.Attach(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// open opens a device node until the test ends, or until the function that it returns is called.
func open(t testing.TB, path string, flags int) (fd int, closeIt func()) {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	done := false
	closeIt = func() {
		if !done {
			done = true
			if err := unix.Close(fd); err != nil {
				t.Errorf("close %s: %v", path, err)
			}
		}
	}
	t.Cleanup(closeIt)
	return fd, closeIt
}

// status asks the kernel what a loop device backs, nil if nothing.
func status(t testing.TB, path string) *unix.LoopInfo64 {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return nil
	}
	return info
}

// backs tells whether a device backs an image.
func backs(t testing.TB, path string, f *os.File) bool {
	t.Helper()
	info, st := status(t, path), stat(t, f)
	return info != nil && info.Device == st.Dev && info.Inode == st.Ino
}

// stat returns an image's attributes.
func stat(t testing.TB, f *os.File) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// devices returns the numbers of all loop devices that back the image, as sysfs says.
func devices(t testing.TB, f *os.File) []int {
	t.Helper()
	all, err := os.ReadDir("/sys/block")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range all {
		digits, isLoop := strings.CutPrefix(e.Name(), "loop")
		n, err := strconv.Atoi(digits)
		if !isLoop || err != nil {
			continue
		}
		content, err := os.ReadFile("/sys/block/" + e.Name() + "/loop/backing_file")
		if err == nil && strings.TrimSuffix(strings.TrimSpace(string(content)), " (deleted)") == f.Name() {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found
}

// gone waits until no device backs the image. A program that looks at all loop devices may have had
// one open while it was detached: then it goes when that program closes it.
func gone(t testing.TB, f *os.File) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(devices(t, f)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("devices %v still back the image", devices(t, f))
		}
		runtime.Gosched()
	}
}

// run runs a tool and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// queue reads one of a device's limits.
func queue(t testing.TB, d loop.Device, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Path), "queue", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// wantFault checks an error's kind and that it names each of the words.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got kind %v of %v, want %v", fault.KindOf(err), err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q doesn't name %q", err, w)
		}
	}
}
