package file_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const doubleLimit = 1 << 20

// doubled is what ReadDouble finds; "" is nothing.
func doubled(t testing.TB, r *file.Root, name string) string {
	t.Helper()
	got, err := r.ReadDouble(name, doubleLimit)
	if fault.Is(err, fault.NotFound) {
		return ""
	}
	must(t, err)
	return string(got)
}

func TestADoubleHoldsWhatWasWrittenLast(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	if got := doubled(t, r, "f"); got != "" {
		t.Errorf("before the first writing there is %q", got)
	}
	for _, want := range []string{"one", "two, and longer", "3", strings.Repeat("long", 5000), "short again", strings.Repeat("\n", 4000)} {
		must(t, r.WriteDouble(t.Context(), "f", []byte(want), 0o600))
		if got := doubled(t, r, "f"); got != want {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
	}
	must(t, r.EndDouble(t.Context(), "f"))
	must(t, r.EndDouble(t.Context(), "f"))
	if names, err := r.ReadDir(".", 0); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestADoubleThatGrowsALittleKeepsItsLengthAndItsFile(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	must(t, r.WriteDouble(t.Context(), "f", []byte("{}"), 0o600))
	before := inode(t, dir)
	for n := range 100 {
		must(t, r.WriteDouble(t.Context(), "f", []byte("{"+strings.Repeat(" ", 30*n)+"}"), 0o600))
	}
	if after := inode(t, dir); after != before {
		t.Errorf("inode and length were %v, are %v", before, after)
	}
}

func inode(t testing.TB, dir string) [2]int64 {
	t.Helper()
	var s unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "f"), &s))
	return [2]int64{int64(s.Ino), s.Size}
}

func TestAFileOfWriteFileIsReadAsADoubleAndBecomesOne(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	for _, old := range []string{`{"version":1}`, `{"padded":"` + strings.Repeat("x", 8192-13) + `"}`} {
		must(t, r.WriteFile(t.Context(), "f", []byte(old), 0o600))
		if got := doubled(t, r, "f"); got != old {
			t.Errorf("got %q, want %q", got, old)
		}
		must(t, r.WriteDouble(t.Context(), "f", []byte("new"), 0o600))
		if got := doubled(t, r, "f"); got != "new" {
			t.Errorf("got %q", got)
		}
	}
	must(t, r.WriteFile(t.Context(), "f", []byte(`{"version":1}`), 0o600))
	must(t, r.EndDouble(t.Context(), "f"))
	if got := doubled(t, r, "f"); got != "" {
		t.Errorf("after its end there is %q", got)
	}
}

func TestADoubleThatIsBrokenOffHoldsTheOldContentOrTheNew(t *testing.T) {
	for name, contents := range map[string][2]string{
		"made":                      {"", "new"},
		"overwritten":               {"old", "new"},
		"made larger than its half": {"old", strings.Repeat("new", 10000)},
		"ended":                     {"old", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := openRoot(t, dir)
			if contents[0] != "" {
				must(t, r.WriteDouble(t.Context(), "f", []byte(contents[0]), 0o600))
			}
			change := func(ctx context.Context) {
				if contents[1] == "" {
					must(t, r.EndDouble(ctx, "f"))
				} else {
					must(t, r.WriteDouble(ctx, "f", []byte(contents[1]), 0o600))
				}
			}
			points := crashes(t, change, func(point string) {
				if got := doubled(t, r, "f"); got != contents[0] && got != contents[1] {
					t.Errorf("dead before %s: it holds %q", point, got)
				}
				change(t.Context())
				if got := doubled(t, r, "f"); got != contents[1] {
					t.Errorf("dead before %s, done again: it holds %q", point, got)
				}
				must(t, r.EndDouble(t.Context(), "f"))
				if contents[0] != "" {
					must(t, r.WriteDouble(t.Context(), "f", []byte(contents[0]), 0o600))
				}
			})
			if points == 0 {
				t.Error("it has no point to die at")
			}
		})
	}
}

// A power cut may leave any part of what was being written.
func TestADoubleSurvivesATornWriteAnywhere(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	path := filepath.Join(dir, "f")
	must(t, r.WriteDouble(t.Context(), "f", []byte("first"), 0o600))
	must(t, r.WriteDouble(t.Context(), "f", []byte("second"), 0o600))
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, r.WriteDouble(t.Context(), "f", []byte("third"), 0o600))
	after, err := os.ReadFile(path)
	must(t, err)
	for at := 0; at <= 64; at++ {
		for _, torn := range [][]byte{
			append(bytes.Clone(after[:at]), before[at:]...), append(bytes.Clone(before[:at]), after[at:]...),
		} {
			must(t, os.WriteFile(path, torn, 0o600))
			if got := doubled(t, r, "f"); got != "second" && got != "third" {
				t.Errorf("torn at %d: it holds %q", at, got)
			}
			must(t, r.WriteDouble(t.Context(), "f", []byte("fourth"), 0o600))
			if got := doubled(t, r, "f"); got != "fourth" {
				t.Errorf("torn at %d and written: it holds %q", at, got)
			}
		}
	}
}

func TestAFirstWritingThatIsBrokenOffIsNoDouble(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	path := filepath.Join(dir, "f")
	for name, content := range map[string][]byte{
		"empty": nil, "a part of it": []byte("4f5e6a7b 1 5\nfi"), "space without content": make([]byte, 8192),
	} {
		must(t, os.WriteFile(path, content, 0o600))
		if got := doubled(t, r, "f"); got != "" {
			t.Errorf("%s: it holds %q", name, got)
		}
		must(t, r.WriteDouble(t.Context(), "f", []byte("new"), 0o600))
		if got := doubled(t, r, "f"); got != "new" {
			t.Errorf("%s: it holds %q", name, got)
		}
		must(t, r.EndDouble(t.Context(), "f"))
	}
}

func TestADoubleThatCannotBeUnderstoodIsSaidToBeDamaged(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat([]byte("x"), 8192), 0o600))
	if _, err := r.ReadDouble("f", doubleLimit); !fault.Is(err, fault.DataLoss) || !strings.Contains(err.Error(), "f") {
		t.Errorf("got %v", err)
	}
	must(t, r.WriteDouble(t.Context(), "f", []byte("longer than allowed"), 0o600))
	if _, err := r.ReadDouble("f", 5); !fault.Is(err, fault.Precondition) {
		t.Errorf("longer than the limit: got %v", err)
	}
	if err := r.WriteDouble(t.Context(), "f", nil, 0o600); !fault.Is(err, fault.Internal) {
		t.Errorf("no content: got %v", err)
	}
}

func FuzzDoublesAreReadOrRefused(f *testing.F) {
	dir := f.TempDir()
	r := openRoot(f, dir)
	must(f, r.WriteDouble(f.Context(), "seed", []byte("content"), 0o600))
	seed, err := os.ReadFile(filepath.Join(dir, "seed"))
	must(f, err)
	f.Add(seed)
	f.Add([]byte("{}"))
	f.Add([]byte("00000000 1 99999999\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		r := openRoot(t, dir)
		must(t, os.WriteFile(filepath.Join(dir, "f"), raw, 0o600))
		got, err := r.ReadDouble("f", doubleLimit)
		if err == nil && len(got) == 0 {
			t.Error("nothing was read, and no error")
		}
		must(t, r.WriteDouble(t.Context(), "f", []byte("new"), 0o600))
		if got := doubled(t, r, "f"); got != "new" {
			t.Errorf("written, it holds %q", got)
		}
	})
}
