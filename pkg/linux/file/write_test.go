package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestWriteFileReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	for _, want := range []string{"one", "two, and longer", ""} {
		must(t, r.WriteFile(t.Context(), "f", []byte(want), 0o600))
		if got := content(t, dir, "f"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if names, err := r.ReadDir(".", 0); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestWriteFileReplacesASymbolicLinkAndNotWhatItLeadsTo(t *testing.T) {
	dir := t.TempDir()
	victim := put(t, "secret", t.TempDir(), "victim")
	must(t, os.Symlink(victim, filepath.Join(dir, "f")))
	must(t, os.Symlink(victim, filepath.Join(dir, ".f.tmp")))
	must(t, openRoot(t, dir).WriteFile(t.Context(), "f", []byte("new"), 0o600))
	if content(t, victim) != "secret" || content(t, dir, "f") != "new" {
		t.Errorf("victim %q, file %q", content(t, victim), content(t, dir, "f"))
	}
}

// crashes runs change, dies at its first point, then at its second and so on, and calls after each time.
func crashes(t *testing.T, change func(ctx context.Context), after func(point string)) (points int) {
	t.Helper()
	for k := 1; ; k++ {
		n, at := 0, ""
		ctx := step.WithHook(t.Context(), func(_, what string) {
			if n++; n == k {
				at = what
				runtime.Goexit()
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() { change(ctx) })
		wg.Wait()
		if at == "" {
			return k - 1
		}
		after(at)
	}
}

func TestWriteFileIsOldOrNewWhereverItDies(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	must(t, r.WriteFile(t.Context(), "f", []byte("old"), 0o600))
	n := crashes(t, func(ctx context.Context) { _ = r.WriteFile(ctx, "f", []byte("new"), 0o600) }, func(point string) {
		if got := content(t, dir, "f"); got != "old" {
			t.Errorf("died before %q: %q", point, got)
		}
	})
	if content(t, dir, "f") != "new" {
		t.Error("a broken call before kept the file from being replaced")
	}
	if names, err := r.ReadDir(".", 0); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if n < 2 {
		t.Errorf("only %d points", n)
	}
}

func TestCreateFileHasOneWinnerAndItsWholeContent(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := disk(t, fs, 320)
			r := openRoot(t, dir)
			var wg sync.WaitGroup
			errs := make([]error, 16)
			for i := range errs {
				wg.Go(func() {
					errs[i] = r.CreateFile(t.Context(), "f", []byte(strings.Repeat(fmt.Sprint(i%10), 5000)), 0o600)
				})
			}
			wg.Wait()
			won := -1
			for i, err := range errs {
				if err == nil && won >= 0 {
					t.Errorf("%d and %d both made it", won, i)
				}
				if err == nil {
					won = i
				} else {
					wantKind(t, err, fault.Exists)
				}
			}
			if got := content(t, dir, "f"); won < 0 || got != strings.Repeat(fmt.Sprint(won%10), 5000) {
				t.Errorf("%d won, but the file holds %.20q", won, got)
			}
			r.Close()
		})
	}
}

func TestRenameNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	put(t, "a", dir, "a")
	put(t, "b", dir, "b")
	mkdir(t, dir, "empty")
	for _, to := range []string{"b", "empty"} {
		wantKind(t, r.Rename(t.Context(), "a", to), fault.Exists)
	}
	wantKind(t, r.Rename(t.Context(), "absent", "c"), fault.NotFound)
	must(t, r.Rename(t.Context(), "a", "empty/a"))
	if content(t, dir, "empty/a") != "a" || content(t, dir, "b") != "b" || exists(dir, "a") {
		t.Error("wrong files")
	}
}

func TestCreateAndMkdirRefuseWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	put(t, "old", dir, "f")
	must(t, os.Symlink("nowhere", filepath.Join(dir, "l")))
	for _, name := range []string{"f", "l"} {
		_, err := r.Create(t.Context(), name, 0o600)
		wantKind(t, err, fault.Exists)
		wantKind(t, r.Mkdir(t.Context(), name, 0o700), fault.Exists)
		wantKind(t, r.CreateFile(t.Context(), name, nil, 0o600), fault.Exists)
	}
	if content(t, dir, "f") != "old" || exists(dir, "nowhere") {
		t.Error("something was changed")
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	mkdir(t, dir, "d")
	must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	for _, name := range []string{"pipe", "d", "null"} {
		for _, open := range []func(string) (*os.File, error){r.Open, r.OpenWrite} {
			f, err := open(name)
			if f != nil {
				t.Errorf("%s was opened", name)
			}
			wantKind(t, err, fault.Precondition)
		}
	}
}

func TestReadFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	put(t, "12345", dir, "f")
	got, err := r.ReadFile("f", 5)
	if err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = r.ReadFile("f", 4)
	wantKind(t, err, fault.Precondition)
	_, err = r.ReadFile("absent", 4)
	wantKind(t, err, fault.NotFound)
}

func TestErrorsOfTheFileSystemHaveTheirKind(t *testing.T) {
	dir := disk(t, "ext4", 16)
	r := openRoot(t, dir)
	err := r.WriteFile(t.Context(), "big", make([]byte, 32<<20), 0o600)
	wantKind(t, err, fault.Exhausted)
	names, err := r.ReadDir(".", 0)
	must(t, err)
	if len(names) != 1 { // lost+found
		t.Errorf("a write without room left %v", names)
	}
	r.Close()
	run(t, "mount", "-o", "remount,ro", dir)
	r = openRoot(t, dir)
	wantKind(t, r.WriteFile(t.Context(), "f", nil, 0o600), fault.Unavailable)
	fs, err := r.Filesystem()
	if err != nil || !fs.ReadOnly || fs.Type != "ext4" || fs.Total == 0 || fs.Free < fs.Available {
		t.Errorf("%+v, %v", fs, err)
	}
	r.Close()
}

func TestNoDescriptorIsLeft(t *testing.T) {
	dir := t.TempDir()
	before := descriptors(t)
	for range 20 {
		r, err := file.OpenRoot(dir)
		must(t, err)
		ctx := t.Context()
		must(t, r.WriteFile(ctx, "f", []byte("x"), 0o600))
		must(t, r.Mkdir(ctx, "d", 0o700))
		must(t, r.Rename(ctx, "f", "d/f"))
		wantKind(t, r.CreateFile(ctx, "d/f", nil, 0o600), fault.Exists)
		_, err = r.ReadFile("d", 1)
		wantKind(t, err, fault.Precondition)
		_, err = r.Ancestors()
		must(t, errors.Join(err, r.Unlink(ctx, "absent"), r.Unlink(ctx, "absent/f"), r.RemoveAll(ctx, "d"), r.Sync(".")))
		for range everyMethod(t, r, "../x") {
		}
		r.Close()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestChangesAreSteps(t *testing.T) {
	r := openRoot(t, t.TempDir())
	var log []string
	ctx := step.WithHook(t.Context(), func(_, what string) { log = append(log, what) })
	must(t, r.Mkdir(ctx, "d", 0o700))
	f, err := r.Create(ctx, "d/f", 0o600)
	must(t, err)
	must(t, file.Truncate(ctx, f, 8192))
	must(t, file.Allocate(ctx, f, 8192))
	must(t, f.Close())
	must(t, r.CreateFile(ctx, "d/g", nil, 0o600))
	must(t, r.WriteFile(ctx, "d/g", nil, 0o600))
	must(t, r.Rename(ctx, "d/g", "g"))
	must(t, r.Unlink(ctx, "g"))
	must(t, r.RemoveAll(ctx, "d"))
	want := "make directory d|create d/f|set the size of f|allocate f|create d/g|create d/.g.tmp|replace d/g|" +
		"rename d/g to g|remove g|remove d/f|remove directory d"
	if got := strings.Join(log, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
