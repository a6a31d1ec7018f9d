package filesystem_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// punch makes a part of a file zeroes.
func punch(t *testing.T, path string, from, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestAWholeFileSystemIsToldFromAHalfOne(t *testing.T) {
	for _, fs := range all {
		t.Run(string(fs), func(t *testing.T) {
			image := made(t, fs, 320*mib)
			sum := func() string { return do(t, "sha256sum", image) }
			before := sum()
			if err := filesystem.Whole(t.Context(), runner(), image, fs); err != nil {
				t.Fatal(err)
			}
			if sum() != before {
				t.Error("it was changed")
			}
			punch(t, image, 128<<10, 160*mib) // its superblock stays
			if err := filesystem.Whole(t.Context(), runner(), image, fs); !fault.Is(err, fault.Precondition) {
				t.Errorf("half of it: %v", err)
			}
			punch(t, image, 0, 320*mib)
			if err := filesystem.Whole(t.Context(), runner(), image, fs); !fault.Is(err, fault.Precondition) {
				t.Errorf("nothing of it: %v", err)
			}
		})
	}
}

func TestAnExt4CanBeMadeForProjectQuotas(t *testing.T) {
	image := sparse(t, 512*mib)
	f := format(filesystem.Ext4)
	f.ProjectQuotas, f.Lazy = true, true
	if err := filesystem.Make(t.Context(), runner(), image, f); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		has, err := filesystem.HasProjectQuotas(t.Context(), runner(), image)
		if has != want || err != nil {
			t.Errorf("has them: %t, %v", has, err)
		}
		if err := filesystem.Whole(t.Context(), runner(), image, filesystem.Ext4); err != nil {
			t.Error(err)
		}
		if err := filesystem.DropProjectQuotas(t.Context(), runner(), image); err != nil {
			t.Error(err)
		}
	}
	mounted(t, attach(t, image)) // on any kernel
}
