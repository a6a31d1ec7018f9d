package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestTheMountsOfADirectoryAreFound(t *testing.T) {
	for name, folders := range map[string][]string{
		"with a plain name":    {"volumes", "v-1"},
		"with a space in it":   {"the volumes", "v 1"},
		"at the mount's root":  {"v-1"},
		"deep below the mount": {"a", "b", "c", "volumes", "v-1"},
	} {
		t.Run(name, func(t *testing.T) {
			base := tmpfs(t, t.TempDir(), "fs")
			source := base
			for _, f := range folders {
				source = dir(t, source, f)
			}
			inside, sibling := dir(t, source, "inside"), dir(t, filepath.Dir(source), filepath.Base(source)+"0")
			m := mount.New(mount.Config{})
			if found := mountsOf(t, m, source); len(found) > 0 {
				t.Fatalf("before: %+v", found)
			}
			targets := []string{dir(t, t.TempDir(), "one"), dir(t, t.TempDir(), "two")}
			bound(t, source, targets[0])
			bound(t, inside, targets[1])
			bound(t, sibling, dir(t, t.TempDir(), "other"))
			found := mountsOf(t, m, source)
			if len(found) != 2 || found[0].MountPoint != targets[0] || found[1].MountPoint != targets[1] {
				t.Errorf("found %+v, want %v", found, targets)
			}
			// Through another mount of the same file system it is the same directory.
			whole := dir(t, t.TempDir(), "whole")
			bound(t, base, whole)
			rel, err := filepath.Rel(base, source)
			if err != nil {
				t.Fatal(err)
			}
			if found := mountsOf(t, m, filepath.Join(whole, rel)); len(found) != 2 {
				t.Errorf("through another mount: %+v", found)
			}
		})
	}
}

func bound(t *testing.T, source, target string) {
	t.Helper()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
}

func mountsOf(t *testing.T, m *mount.Mounter, path string) []mount.Entry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := m.OfDirectory(t.Context(), f, filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
