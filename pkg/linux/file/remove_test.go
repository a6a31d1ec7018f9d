package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestRemoveAllRemovesATreeAndFollowsNothing(t *testing.T) {
	outside := t.TempDir()
	put(t, "secret", outside, "victim")
	dir := t.TempDir()
	put(t, "x", dir, "tree/a/b/f")
	must(t, os.Symlink(outside, filepath.Join(dir, "tree/a/link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "tree/pipe"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "tree/not\xffutf8"), nil, 0o600))
	put(t, "x", dir, "other")
	r := openRoot(t, dir)
	for range 2 {
		must(t, r.RemoveAll(t.Context(), "tree"))
	}
	if exists(dir, "tree") || !exists(dir, "other") || content(t, outside, "victim") != "secret" {
		t.Error("wrong files were removed")
	}
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, r.RemoveAll(t.Context(), "link"))
	if exists(dir, "link") || !exists(outside, "victim") {
		t.Error("a symbolic link was followed")
	}
}

func TestRemoveAllStopsAtMountPoints(t *testing.T) {
	for name, c := range map[string]struct {
		mount func(t *testing.T, on string)
	}{
		"of another file system": {func(t *testing.T, on string) {
			must(t, unix.Mount("tmpfs", on, "tmpfs", 0, ""))
			t.Cleanup(func() { must(t, unix.Unmount(on, 0)) })
			put(t, "data", on, "victim")
		}},
		"of the same file system (a bind mount)": {func(t *testing.T, on string) {
			outside := mkdir(t, filepath.Dir(filepath.Dir(on)), "outside")
			put(t, "data", outside, "victim")
			bind(t, outside, on)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			on := mkdir(t, dir, "tree/m")
			c.mount(t, on)
			r := openRoot(t, dir)
			for _, what := range []string{"tree", "tree/m", "tree/m/victim"} {
				err := r.RemoveAll(t.Context(), what)
				wantKind(t, err, fault.Precondition)
				if err != nil && !strings.Contains(err.Error(), on) {
					t.Errorf("%q does not name the mount point", err)
				}
			}
			wantKind(t, r.Rename(t.Context(), "tree/m", "moved"), fault.Precondition)
			if content(t, on, "victim") != "data" {
				t.Error("the file behind the mount is gone")
			}
		})
	}
}

func TestRemoveAllStopsAtAFileThatIsAMountPoint(t *testing.T) {
	dir := t.TempDir()
	on := put(t, "", dir, "tree/f")
	bind(t, put(t, "data", dir, "victim"), on)
	wantKind(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"), fault.Precondition)
	if content(t, dir, "victim") != "data" {
		t.Error("the file behind the mount is gone")
	}
}

func TestRemoveAllGoesOnWhereItWasStopped(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		put(t, "x", dir, fmt.Sprintf("tree/%d/f", i))
	}
	r := openRoot(t, dir)
	n := crashes(t, func(ctx context.Context) { must(t, r.RemoveAll(ctx, "tree")) }, func(string) {})
	if exists(dir, "tree") || n == 0 {
		t.Errorf("the tree is still there after %d tries", n)
	}
}

func TestRemoveAllEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	put(t, "x", dir, "tree/f")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, openRoot(t, dir).RemoveAll(ctx, "tree"), fault.Unavailable)
	if !exists(dir, "tree/f") {
		t.Error("it was removed after the end of the context")
	}
}

func TestRemoveAllTakesDirectoriesOfAnySize(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	mkdir(t, dir, "tree")
	for i := range 10000 { // more than are held at a time
		must(t, os.WriteFile(filepath.Join(dir, "tree", fmt.Sprint(i)), nil, 0o600))
	}
	must(t, openRoot(t, dir).RemoveAll(t.Context(), "tree"))
	if exists(dir, "tree") {
		t.Error("the tree is still there")
	}
}

func TestUnlinkTakesNoDirectory(t *testing.T) {
	dir := t.TempDir()
	put(t, "x", dir, "d/f")
	r := openRoot(t, dir)
	wantKind(t, r.Unlink(t.Context(), "d"), fault.Precondition)
	must(t, r.Unlink(t.Context(), "d/f"))
	must(t, r.Unlink(t.Context(), "d/f"))
	if exists(dir, "d/f") || !exists(dir, "d") {
		t.Error("wrong files were removed")
	}
}
