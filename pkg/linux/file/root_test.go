package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

func TestOpenRootRefuses(t *testing.T) {
	dir := t.TempDir()
	mkdir(t, dir, "real/inner")
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	put(t, "x", dir, "plain")
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for name, c := range map[string]struct {
		path string
		kind fault.Kind
		says string
	}{
		"a symbolic link":              {dir + "/link", fault.Precondition, dir + "/link is a symbolic link"},
		"a symbolic link on the way":   {dir + "/link/inner", fault.Precondition, dir + "/link is a symbolic link"},
		"a dangling symbolic link":     {dir + "/dangling", fault.Precondition, dir + "/dangling is a symbolic link"},
		"what is not there":            {dir + "/absent", fault.NotFound, dir + "/absent"},
		"a regular file":               {dir + "/plain", fault.Precondition, "not a directory"},
		"a file on the way":            {dir + "/plain/x", fault.Precondition, "not a directory"},
		"a named pipe":                 {dir + "/pipe", fault.Precondition, "not a directory"},
		"a relative path":              {"var", fault.Invalid, "absolute"},
		"an empty path":                {"", fault.Invalid, "absolute"},
		"a path that climbs":           {dir + "/real/../real", fault.Invalid, dir[:20]},
		"a path with a slash too many": {dir + "/real/", fault.Invalid, "write it as"},
		"a NUL":                        {dir + "/\x00", fault.Invalid, "NUL"},
		"a path beyond PATH_MAX":       {"/" + strings.Repeat("a/", 2100) + "a", fault.Invalid, "too long"},
		"a name of 4 KiB":              {"/" + strings.Repeat("a", 4000), fault.Invalid, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := file.OpenRoot(c.path)
			if r != nil {
				t.Fatal("it was opened")
			}
			wantKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

func TestMakeRootMakesWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/c")
	for range 2 {
		r, err := file.MakeRoot(t.Context(), path, 0o700)
		must(t, err)
		r.Close()
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	dir := t.TempDir()
	must(t, os.Symlink(dir, filepath.Join(dir, "link")))
	_, err = file.MakeRoot(t.Context(), dir+"/link/new", 0o700)
	wantKind(t, err, fault.Precondition)
	if exists(dir, "new") {
		t.Error("a symbolic link was followed")
	}
}

// Every method that takes a name refuses one that leads out of the root, before it changes anything.
func TestNamesThatLeadOutAreRefused(t *testing.T) {
	outside := t.TempDir()
	put(t, "secret", outside, "victim")
	dir := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	mkdir(t, dir, "bound")
	bind(t, outside, filepath.Join(dir, "bound"))
	r := openRoot(t, dir)
	for _, name := range []string{
		"link/victim", "bound/victim", "../" + filepath.Base(outside) + "/victim", outside + "/victim",
		"", "/", "..", "a/..", "./victim", "a//b", "a/", "victim\x00", strings.Repeat("n", 256),
		strings.Repeat("n/", 3000) + "n", "bad\xffutf8",
	} {
		for op, err := range everyMethod(t, r, name) {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Precondition) {
				t.Errorf("%s of %.40q: %v", op, name, err)
			}
		}
	}
	if content(t, outside, "victim") != "secret" {
		t.Error("a file outside was changed")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside there is now %v, %v", entries, err)
	}
}

func everyMethod(t *testing.T, r *file.Root, name string) map[string]error {
	t.Helper()
	ctx := t.Context()
	results := map[string]error{}
	_, results["open"] = r.Open(name)
	_, results["open for writing"] = r.OpenWrite(name)
	_, results["read"] = r.ReadFile(name, 10)
	_, results["list"] = r.ReadDir(name, 0)
	_, results["stat"] = r.Stat(name)
	_, results["create"] = r.Create(ctx, name, 0o600)
	results["make directory"] = r.Mkdir(ctx, name, 0o700)
	results["write"] = r.WriteFile(ctx, name, []byte("x"), 0o600)
	results["write once"] = r.CreateFile(ctx, name, []byte("x"), 0o600)
	results["rename away"] = r.Rename(ctx, name, "stolen")
	results["rename to"] = r.Rename(ctx, "link", name)
	results["unlink"] = r.Unlink(ctx, name)
	results["remove"] = r.RemoveAll(ctx, name)
	results["sync"] = r.Sync(name)
	return results
}

func TestSymbolicLinksInsideTheRootAreNotFollowedEither(t *testing.T) {
	dir := t.TempDir()
	put(t, "x", dir, "real/f")
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	must(t, os.Symlink("real/f", filepath.Join(dir, "flink")))
	r := openRoot(t, dir)
	for op, err := range everyMethod(t, r, "link/f") {
		if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "symbolic link") && op != "rename to" {
			t.Errorf("%s: %v", op, err)
		}
	}
	for _, open := range []func(string) (*os.File, error){r.Open, r.OpenWrite} {
		_, err := open("flink")
		wantKind(t, err, fault.Precondition)
	}
	if content(t, dir, "real/f") != "x" {
		t.Error("the file was changed")
	}
}

func TestRootItselfIsNotChanged(t *testing.T) {
	r := openRoot(t, t.TempDir())
	for op, err := range everyMethod(t, r, ".") {
		if op == "list" || op == "stat" || op == "sync" {
			must(t, err)
			continue
		}
		wantKind(t, err, fault.Invalid)
	}
}

func TestWhatWasOpenedIsUsedWhateverItsPathMeansNow(t *testing.T) {
	base := t.TempDir()
	pool := mkdir(t, base, "pool")
	r := openRoot(t, pool)
	must(t, os.Rename(pool, filepath.Join(base, "moved")))
	mkdir(t, base, "pool")
	must(t, r.WriteFile(t.Context(), "f", []byte("x"), 0o600))
	if !exists(base, "moved/f") || exists(base, "pool/f") {
		t.Error("the file went to the directory of that path, not to the one that was opened")
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{
		"a", "a/b", ".", "..", "a/../b", "/", "", "a\x00", "ü/日本", "\xff", strings.Repeat("x", 4096), "...", "a/.", " ", "-rf", "a\nb",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	r, err := file.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Close)
	f.Fuzz(func(t *testing.T, name string) {
		err := file.CheckName(name)
		if err != nil {
			wantKind(t, err, fault.Invalid)
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		joined := filepath.Join(dir, name)
		if filepath.IsAbs(name) || joined == dir || !strings.HasPrefix(joined, dir+"/") || joined != dir+"/"+name {
			t.Errorf("%q was let through and leads to %q", name, joined)
		}
		// The kernel agrees that it is a name, and nothing is there.
		if _, err := r.Stat(name); !fault.Is(err, fault.NotFound) {
			t.Errorf("stat %q: %v", name, err)
		}
	})
}
