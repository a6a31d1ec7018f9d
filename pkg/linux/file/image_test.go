package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

func TestImagesOnEachFilesystem(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			r := openRoot(t, disk(t, fs, 512))
			defer r.Close()
			ctx := t.Context()
			f, err := r.Create(ctx, "image", 0o600)
			must(t, err)
			defer f.Close()
			if fs == "btrfs" {
				must(t, file.SetNoCow(ctx, f))
			}
			const size = 64 << 20
			must(t, file.Allocate(ctx, f, size))
			must(t, file.Truncate(ctx, f, size))
			wantAllocated(t, f, size)
			must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 8<<20))
			must(t, file.Allocate(ctx, f, size)) // fills what was punched
			wantAllocated(t, f, size)
			wantKind(t, file.Allocate(ctx, f, 4<<30), fault.Exhausted)
			must(t, file.Truncate(ctx, f, size)) // gives back what lies behind the end
			must(t, file.Sync(f))
			wantAllocated(t, f, size)
			align, err := file.DirectIOAlignment(f)
			if err != nil || (align != 512 && fs != "btrfs") {
				t.Errorf("direct I/O alignment %d, %v", align, err)
			}
		})
	}
}

// wantAllocated allows the file system a little for its own.
func wantAllocated(t *testing.T, f *os.File, size int64) {
	t.Helper()
	info, err := file.StatFile(f)
	must(t, err)
	if info.Bytes != size || info.Allocated < size || info.Allocated > size+size/16 {
		t.Errorf("%d bytes with %d allocated, want %d", info.Bytes, info.Allocated, size)
	}
}

func TestAllocateEndsWithItsContext(t *testing.T) {
	r := openRoot(t, t.TempDir())
	f, err := r.Create(t.Context(), "image", 0o600)
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, file.Allocate(ctx, f, 1<<20), fault.Unavailable)
}

func TestTruncateBeyondWhatTheFilesystemHolds(t *testing.T) {
	r := openRoot(t, disk(t, "ext4", 64))
	defer r.Close()
	f, err := r.Create(t.Context(), "image", 0o600)
	must(t, err)
	defer f.Close()
	wantKind(t, file.Truncate(t.Context(), f, 1<<60), fault.OutOfRange)
}

func TestToolsReachTheOpenFile(t *testing.T) {
	dir := t.TempDir()
	put(t, "mine", dir, "f")
	f, err := openRoot(t, dir).Open("f")
	must(t, err)
	defer f.Close()
	must(t, os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "moved")))
	put(t, "other", dir, "f")
	if got := run(t, "cat", file.PathForTool(f)); got != "mine" {
		t.Errorf("the tool read %q", got)
	}
}

func TestPlacesAreKnownByDeviceAndInode(t *testing.T) {
	base := t.TempDir()
	pool, other := mkdir(t, base, "a/pool"), mkdir(t, base, "b")
	bind(t, pool, other)
	one, two := openRoot(t, pool), openRoot(t, other)
	if same, err := one.Same(two); err != nil || !same {
		t.Errorf("a bind mount of the directory is another place: %v", err)
	}
	if same, err := one.Same(openRoot(t, base)); err != nil || same {
		t.Errorf("its grandparent is the same place: %v", err)
	}
}

func TestAncestorsReachTheTop(t *testing.T) {
	base := t.TempDir()
	inner := mkdir(t, base, "a/inner")
	mkdir(t, base, "a/b")
	// A directory bound on one inside itself has the ID of its own parent.
	bind(t, filepath.Join(base, "a"), filepath.Join(base, "a/b"))
	for _, path := range []string{inner, filepath.Join(base, "a/b"), filepath.Join(base, "a/b/inner")} {
		above, err := openRoot(t, path).Ancestors()
		must(t, err)
		var want []file.ID
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			id, err := openRoot(t, dir).ID()
			must(t, err)
			if want = append(want, id); dir == "/" {
				break
			}
		}
		if len(above) != len(want) {
			t.Fatalf("%s: got %v, want %v", path, above, want)
		}
		for i := range want {
			if above[i] != want[i] {
				t.Errorf("%s: %d above is %v, want %v", path, i+1, above[i], want[i])
			}
		}
	}
}
