package file_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// deep makes directories in one another, with that many files and empty directories beside each, and returns an open
// descriptor of the deepest.
func deep(t *testing.T, levels, beside int, path ...string) *os.File {
	t.Helper()
	fd, err := unix.Open(mkdir(t, path...), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range levels {
		for n := range beside {
			name := string(rune('a' + n))
			file, err := unix.Openat(fd, "file-"+name, unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			must(t, err)
			must(t, unix.Close(file))
			must(t, unix.Mkdirat(fd, "empty-"+name, 0o700))
		}
		must(t, unix.Mkdirat(fd, "down", 0o700))
		next, err := unix.Openat(fd, "down", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	f := os.NewFile(uintptr(fd), "deepest")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestRemoveAllTakesTreesOfAnyDepthWithAFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	must(t, deep(t, 5000, 1, dir, "tree").Close())
	before, most := descriptors(t), 0
	steps := 0
	ctx := step.WithHook(t.Context(), func(string, string) {
		if steps++; steps%500 == 0 {
			most = max(most, descriptors(t))
		}
	})
	must(t, openRoot(t, dir).RemoveAll(ctx, "tree"))
	if exists(dir, "tree") {
		t.Error("the tree is still there")
	}
	if most > before+50 {
		t.Errorf("%d descriptors were open, %d before", most, before)
	}
}

func TestADeepRemovalGoesOnWhereItWasStopped(t *testing.T) {
	dir := t.TempDir()
	deep(t, 36, 1, dir, "tree")
	r := openRoot(t, dir)
	n := crashes(t, func(ctx context.Context) { must(t, r.RemoveAll(ctx, "tree")) }, func(string) {})
	if exists(dir, "tree") || n == 0 {
		t.Errorf("the tree is still there after %d tries", n)
	}
}

func TestADeepRemovalEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	deep(t, 60, 3, dir, "tree")
	ctx, cancel := context.WithCancel(t.Context())
	ctx = step.WithHook(ctx, func(_, what string) {
		if strings.Contains(what, "deep") {
			cancel()
		}
	})
	wantKind(t, openRoot(t, dir).RemoveAll(ctx, "tree"), fault.Unavailable)
	if !exists(dir, "tree") {
		t.Error("it was removed after the end of the context")
	}
}

func TestADeepRemovalStopsAtMountPointsAndFollowsNothing(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, "secret", outside, "victim")
	deep(t, 60, 1, dir, "tree")
	deepest := filepath.Join(dir, "tree", strings.Repeat("down/", 60))
	must(t, os.Symlink(outside, filepath.Join(deepest, "link")))
	on := mkdir(t, deepest, "mount")
	must(t, unix.Mount(outside, on, "", unix.MS_BIND, ""))
	wantKind(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"), fault.Precondition)
	must(t, unix.Unmount(on, 0))
	must(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"))
	if exists(dir, "tree") || content(t, outside, "victim") != "secret" {
		t.Error("wrong files were removed")
	}
}

func TestADirectoryThatMovesWhileItIsRemovedTakesNothingElseAlong(t *testing.T) {
	dir := t.TempDir()
	deep(t, 60, 1, dir, "tree")
	put(t, "kept", dir, "elsewhere/down/file")
	moved := false
	ctx := step.WithHook(t.Context(), func(_, what string) {
		if moved || what != "remove deep in a directory" {
			return
		}
		moved = true
		from := filepath.Join(dir, "tree", strings.Repeat("down/", 40))
		must(t, os.Rename(filepath.Join(from, "down"), filepath.Join(dir, "elsewhere", "other")))
	})
	err := openRoot(t, dir).RemoveAll(ctx, "tree")
	if err != nil {
		wantKind(t, err, fault.Busy)
	}
	if !moved || content(t, dir, "elsewhere/down/file") != "kept" {
		t.Error("what lay beside the moved directory is gone")
	}
	must(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"))
	if exists(dir, "tree") {
		t.Error("the tree is still there")
	}
}

func TestRemoveAllTakesWhatIsImmutable(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := disk(t, fs, 320)
			put(t, "x", dir, "tree/immutable/f")
			put(t, "x", dir, "tree/log")
			put(t, "x", dir, "tree/appended/f")
			lock := func() {
				run(t, "chattr", "+i", filepath.Join(dir, "tree/immutable/f"), filepath.Join(dir, "tree/immutable"))
				run(t, "chattr", "+a", filepath.Join(dir, "tree/log"), filepath.Join(dir, "tree/appended"))
			}
			lock()
			must(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"))
			if exists(dir, "tree") {
				t.Error("the tree is still there")
			}
		})
	}
}
