package mount_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a tool that prepares a test and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// dir makes a directory that is free of mounts again when the test ends.
func dir(t *testing.T, path ...string) string {
	t.Helper()
	d := filepath.Join(path...)
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(d, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) == nil {
		}
	})
	return d
}

// file makes a regular file that is free of mounts again when the test ends.
func file(t *testing.T, content string, path ...string) string {
	t.Helper()
	f := filepath.Join(path...)
	if err := os.WriteFile(f, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(f, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) == nil {
		}
	})
	return f
}

// disk attaches a loop device to an image of that size in MiB, formatted where fsType is not "".
func disk(t *testing.T, fsType string, mib int64, losetup ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if fsType != "" {
		run(t, "mkfs."+fsType, "-q", image)
	}
	dev := run(t, "losetup", append(losetup, "--find", "--show", image)...)
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d %s: %v\n%s", dev, err, out)
		}
	})
	return dev
}

// tmpfs mounts one on a new directory.
func tmpfs(t *testing.T, path ...string) string {
	t.Helper()
	d := dir(t, path...)
	if err := unix.Mount("tmpfs", d, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	return d
}

// inspect fails the test where Inspect does.
func inspect(t *testing.T, path string) mount.Point {
	t.Helper()
	p, err := mount.New(mount.Config{}).Inspect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// entries returns the table's lines for one mount point.
func entries(t *testing.T, path string) []mount.Entry {
	t.Helper()
	all, err := mount.New(mount.Config{}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e mount.Entry) bool { return e.MountPoint != path })
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
