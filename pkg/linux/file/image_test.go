package file_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
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

func TestInUseTellsOfEveryOtherOpener(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := disk(t, fs, 320)
			path := put(t, strings.Repeat("x", 1<<20), dir, "image")
			r := openRoot(t, dir)
			defer r.Close()
			f, err := r.Open("image")
			must(t, err)
			defer f.Close()
			want := func(when string, want bool) {
				t.Helper()
				if got, err := file.InUse(f); err != nil || got != want {
					t.Errorf("%s: %v, %v", when, got, err)
				}
			}
			want("nobody else", false)
			for _, mode := range []int{os.O_RDONLY, os.O_RDWR} {
				other, err := os.OpenFile(path, mode, 0)
				must(t, err)
				want("a process", true)
				must(t, other.Close())
				want("nobody any more", false)
			}
			for _, how := range []string{"--read-only", "--show"} {
				device := run(t, "losetup", how, "--find", "--show", path)
				want("a loop device", true)
				held, err := os.Open(device) // the kernel detaches it with its last user
				must(t, err)
				run(t, "losetup", "-d", device)
				want("a loop device that waits for its user", true)
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				wantKind(t, file.AwaitUnused(ended, f), fault.Unavailable)
				var waiter errgroup.Group
				waiter.Go(func() error { return file.AwaitUnused(t.Context(), f) })
				must(t, held.Close())
				must(t, waiter.Wait())
				want("no loop device", false)
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
		wantAncestors(t, path, path)
	}
}

func TestAncestorsOfABindMountAreThoseOfWhatIsBoundToo(t *testing.T) {
	base := t.TempDir()
	inner, elsewhere := mkdir(t, base, "pool/inner/deep"), mkdir(t, base, "elsewhere")
	bind(t, filepath.Join(base, "pool/inner"), elsewhere)
	wantAncestors(t, filepath.Join(elsewhere, "deep"), inner)
	wantAncestors(t, filepath.Join(elsewhere, "deep"), filepath.Join(elsewhere, "deep"))
	// The disk's own mount is hidden; a bind mount of a part of it shows what is needed.
	mounted := disk(t, "ext4", 16)
	mkdir(t, mounted, "a/b/c/d")
	one, two := mkdir(t, base, "one"), mkdir(t, base, "two")
	bind(t, filepath.Join(mounted, "a"), one)
	bind(t, filepath.Join(mounted, "a/b/c"), two)
	bind(t, t.TempDir(), mounted)
	wantAncestors(t, filepath.Join(two, "d"), filepath.Join(one, "b/c/d"))
}

// wantAncestors checks that a directory's ancestors include all above path.
func wantAncestors(t *testing.T, of, path string) {
	t.Helper()
	above, err := openRoot(t, of).Ancestors()
	must(t, err)
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		id, err := openRoot(t, dir).ID()
		must(t, err)
		if !slices.Contains(above, id) {
			t.Errorf("%s (%v) is not above %s: %v", dir, id, of, above)
		}
		if dir == "/" {
			return
		}
	}
}
