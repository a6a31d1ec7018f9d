package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestAFileSystemIsFrozenAndThawed(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dev, at := disk(t, fs, 320), dir(t, t.TempDir(), "at")
			m := mount.New(mount.Config{})
			if err := m.Mount(t.Context(), dev, at, fs, nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			})
			f, err := m.OpenFilesystem(at, func(mount.Point) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Thaw(t.Context()); err != nil {
				t.Errorf("thaw what is not frozen: %v", err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			if err := f.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantFault(t, f.Freeze(t.Context()), fault.Busy, at)
			wrote := make(chan error, 1)
			go func() { wrote <- os.WriteFile(filepath.Join(at, "f"), []byte("x"), 0o600) }()
			if err := f.Thaw(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
		})
	}
	at := tmpfs(t, t.TempDir(), "tmpfs")
	f, err := mount.New(mount.Config{}).OpenFilesystem(at, func(mount.Point) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantFault(t, f.Freeze(t.Context()), fault.Precondition, at)
	_, err = mount.New(mount.Config{}).OpenFilesystem(at, func(mount.Point) error { return fault.New(fault.Precondition, "not it") })
	wantFault(t, err, fault.Precondition, "not it")
}
