package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func TestADiskIsARealFileSystemThatCanBeBroken(t *testing.T) {
	magic := map[string]int64{"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC}
	for fs, want := range magic {
		t.Run(fs, func(t *testing.T) {
			t.Parallel()
			d := NewDisk(t, fs, 512*mib)
			var s unix.Statfs_t
			if err := unix.Statfs(d.Path, &s); err != nil || s.Type != want {
				t.Fatalf("file system %x, %v; want %x", s.Type, err, want)
			}
			loops, err := Loops(filepath.Dir(d.Image))
			if err != nil || len(loops) != 1 {
				t.Errorf("loop devices %v, %v; want one", loops, err)
			}
			if err := d.Remount(unix.MS_RDONLY); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(d.Path, "x"), 0o755); !errors.Is(err, unix.EROFS) {
				t.Errorf("mkdir on a read-only disk: %v", err)
			}
			if err := d.Remount(0); err != nil {
				t.Fatal(err)
			}
			thaw := d.Freeze(t)
			made := make(chan error)
			go func() { made <- os.Mkdir(filepath.Join(d.Path, "x"), 0o755) }()
			select {
			case err := <-made:
				t.Errorf("a frozen disk took a folder: %v", err)
			default:
			}
			thaw()
			if err := <-made; err != nil {
				t.Error(err)
			}
			if err := d.Unmount(); err != nil {
				t.Error(err)
			}
			if loops, err := Loops(filepath.Dir(d.Image)); err != nil || len(loops) != 0 {
				t.Errorf("after the unmount: loop devices %v, %v", loops, err)
			}
		})
	}
}
