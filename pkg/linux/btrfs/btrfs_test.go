package btrfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestASubvolumeIsMadeCopiedAndRemoved(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	top := opened(t, dir)
	must(t, btrfs.Create(ctx, top, "a"))
	wantKind(t, btrfs.Create(ctx, top, "a"), fault.Exists)
	write(t, "old", dir, "a", "file")
	a := opened(t, dir, "a")
	must(t, btrfs.Snapshot(ctx, a, top, "frozen", true))
	must(t, btrfs.Snapshot(ctx, a, top, "copy", false))
	wantKind(t, btrfs.Snapshot(ctx, a, top, "copy", false), fault.Exists)
	write(t, "new", dir, "a", "file")
	for _, name := range []string{"frozen", "copy"} {
		wantContent(t, "old", dir, name, "file")
	}
	if err := os.WriteFile(filepath.Join(dir, "frozen", "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only snapshot was written to: %v", err)
	}
	write(t, "copy's", dir, "copy", "file")
	wantContent(t, "new", dir, "a", "file")
	for _, name := range []string{"a", "frozen", "copy", "copy", "never"} {
		must(t, btrfs.Delete(ctx, top, name))
		wantGone(t, dir, name)
	}
}

func TestSubvolumesAreToldFromDirectories(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	top := opened(t, dir)
	must(t, btrfs.Create(ctx, top, "a"))
	must(t, os.Mkdir(filepath.Join(dir, "a", "plain"), 0o700))
	for name, want := range map[string]bool{".": true, "a": true, "a/plain": false} {
		if is, err := btrfs.IsSubvolume(opened(t, dir, name)); is != want || err != nil {
			t.Errorf("%s: %t, %v", name, is, err)
		}
	}
	if is, err := btrfs.IsSubvolume(opened(t, "/proc")); is || err != nil {
		t.Errorf("/proc: %t, %v", is, err)
	}
	outer, err := btrfs.ID(opened(t, dir, "a"))
	must(t, err)
	if inner, err := btrfs.ID(opened(t, dir, "a", "plain")); inner != outer || err != nil {
		t.Errorf("a directory is in subvolume %d, %v; want %d", inner, err, outer)
	}
	plain := opened(t, dir, "a", "plain")
	wantKind(t, btrfs.Snapshot(ctx, plain, top, "b", true), fault.Precondition)
	wantKind(t, btrfs.Delete(ctx, opened(t, dir, "a"), "plain"), fault.Precondition)
	write(t, "", dir, "file")
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	for _, name := range []string{"file", "link"} {
		wantKind(t, btrfs.Delete(ctx, top, name), fault.Precondition)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("n", 256)} {
		wantKind(t, btrfs.Create(ctx, top, name), fault.Invalid)
		wantKind(t, btrfs.Delete(ctx, top, name), fault.Invalid)
	}
	wantKind(t, btrfs.Create(ctx, opened(t, "/proc"), "a"), fault.Precondition)
}

func TestWhatIsNestedGoesToo(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	top := opened(t, dir)
	must(t, btrfs.Create(ctx, top, "a"))
	must(t, btrfs.Create(ctx, opened(t, dir, "a"), "b"))
	must(t, os.Mkdir(filepath.Join(dir, "a", "b", "d"), 0o700))
	must(t, btrfs.Create(ctx, opened(t, dir, "a", "b", "d"), "c"))
	write(t, "x", dir, "a", "b", "d", "c", "file")
	must(t, btrfs.Snapshot(ctx, opened(t, dir, "a", "b"), opened(t, dir, "a"), "frozen", true))
	must(t, btrfs.Create(ctx, top, "stranger"))
	write(t, "kept", dir, "stranger", "file")
	must(t, btrfs.Delete(ctx, top, "a"))
	wantGone(t, dir, "a")
	wantContent(t, "kept", dir, "stranger", "file")
}

func TestARemovalThatDiedGoesOn(t *testing.T) {
	dir := filesystem(t)
	top := opened(t, dir)
	must(t, btrfs.Create(t.Context(), top, "a"))
	must(t, btrfs.Create(t.Context(), opened(t, dir, "a"), "b"))
	died := errors.New("died")
	steps := 0
	ctx := step.WithHook(t.Context(), func(string, string) {
		if steps++; steps == 2 {
			panic(died)
		}
	})
	func() {
		defer func() {
			if recover() != died { //nolint:errorlint // the very value
				t.Error("it didn't die")
			}
		}()
		_ = btrfs.Delete(ctx, top, "a")
	}()
	wantGone(t, dir, "a", "b")
	must(t, btrfs.Delete(t.Context(), top, "a"))
	wantGone(t, dir, "a")
}

func TestANewFileSystemsDevicesHaveNoErrors(t *testing.T) {
	if n, err := btrfs.DeviceErrors(opened(t, filesystem(t))); n != 0 || err != nil {
		t.Errorf("%d errors, %v", n, err)
	}
	_, err := btrfs.DeviceErrors(opened(t, "/proc"))
	wantKind(t, err, fault.Precondition)
}

func TestNestedSubvolumesAreNamed(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	must(t, btrfs.Create(ctx, opened(t, dir), "a"))
	must(t, os.MkdirAll(filepath.Join(dir, "a", "some", "where"), 0o700))
	if nested, err := btrfs.Nested(opened(t, dir, "a")); len(nested) > 0 || err != nil {
		t.Errorf("none: %q, %v", nested, err)
	}
	must(t, btrfs.Create(ctx, opened(t, dir, "a"), "b"))
	must(t, btrfs.Create(ctx, opened(t, dir, "a", "b"), "deeper"))
	must(t, btrfs.Create(ctx, opened(t, dir, "a", "some", "where"), "c"))
	nested, err := btrfs.Nested(opened(t, dir, "a"))
	slices.Sort(nested)
	if want := []string{"b", "some/where/c"}; !slices.Equal(nested, want) || err != nil {
		t.Errorf("%q, %v, want %q", nested, err, want)
	}
}
