package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// TestMain runs the tests in the sandbox; the driver is not needed, and not built.
func TestMain(m *testing.M) {
	if err := os.Setenv("DATASTORE_CSI_TEST_BINARY", "/none"); err != nil {
		panic(err)
	}
	os.Exit(harness.Main(m))
}

func TestARowIsALineOfTheTable(t *testing.T) {
	var out bytes.Buffer
	tab := &table{out: &out}
	tab.row("create", "website", "256 MiB ext4, thin, on fast; takes 1.3 MiB", 41300*time.Microsecond)
	want := " 1  create                   website   256 MiB ext4, thin, on fast; takes 1.3 MiB          41.3 ms\n"
	if got := out.String(); got != want {
		t.Errorf("printed\n%q, want\n%q", got, want)
	}
}

func TestLinesAreAtMost100CharactersWide(t *testing.T) {
	var out bytes.Buffer
	tab := &table{out: &out}
	tab.head()
	tab.row("attach, stage, publish", "database", strings.Repeat("some words ", 30), 59*time.Minute)
	tab.ended("attach, stage, publish", "database", "INTERRUPTED", time.Second)
	lines := strings.Split(out.String(), "\n")
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d characters: %q", n, line)
		}
		if strings.HasSuffix(line, " ") {
			t.Errorf("a space at the end of %q", line)
		}
	}
	if len(lines) < 10 {
		t.Errorf("%d lines; a long result takes several", len(lines))
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	file, err := os.Create(filepath.Join(harness.Dir(t), "out"))
	if err != nil {
		t.Fatal(err)
	}
	if newTable(file).colour {
		t.Error("a file gets colours")
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if got, want := (&table{colour: true}).paint(green, "x"), "\x1b[32;1mx\x1b[0m"; got != want {
		t.Errorf("painted %q, want %q", got, want)
	}
}

func TestLongTextIsBrokenBetweenWords(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []string
	}{
		{"nothing is one empty line", "", []string{""}},
		{"what fits stays in one line", "a bcd", []string{"a bcd"}},
		{"what doesn't fit goes on", "ab cd ef", []string{"ab cd", "ef"}},
		{"a word that is too long stays whole", "a bcdefgh i", []string{"a", "bcdefgh", "i"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := wrap(row.text, 5); !slices.Equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestFiguresAreReadable(t *testing.T) {
	for want, got := range map[string]string{
		"0.85 ms": inTime(850 * time.Microsecond), "12.3 ms": inTime(12345 * time.Microsecond),
		"100 ms": inTime(99999 * time.Microsecond), "999 ms": inTime(999 * time.Millisecond), "61.00 s": inTime(61 * time.Second),
		"0 B": inBytes(0), "1023 B": inBytes(1023), "1 KiB": inBytes(1024), "1.5 MiB": inBytes(3 << 19), "70.1 GiB": inBytes(75_300_000_000),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLostAndChangedDataShow(t *testing.T) {
	path := filepath.Join(harness.Dir(t), "data")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	c := newContent()
	for range 2 {
		if err := c.add(file, 2*chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.check(path); err != nil {
		t.Errorf("as written: %v", err)
	}
	if _, err := file.WriteAt([]byte{^lastByte(t, path)}, c.bytes-1); err != nil {
		t.Fatal(err)
	}
	if err := c.check(path); err == nil || !strings.Contains(err.Error(), "CHANGED") {
		t.Errorf("one byte changed: %v", err)
	}
	if err := file.Truncate(c.bytes - 1); err != nil {
		t.Fatal(err)
	}
	if err := c.check(path); err == nil || !strings.Contains(err.Error(), "LOST") {
		t.Errorf("one byte less: %v", err)
	}
}

func lastByte(t *testing.T, path string) byte {
	t.Helper()
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return all[len(all)-1]
}

func TestCleaningUpTakesAwayWhatIsMountedAndAttachedInTheFolderOnly(t *testing.T) {
	mine, other := harness.NewDisk(t, "ext4", 64<<20), harness.NewDisk(t, "ext4", 64<<20)
	folder := filepath.Dir(mine.Path)
	d, err := newDemo("/none", folder, &table{out: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(mine.Path, "inner")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", inner, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if found, err := leftovers(folder, d.stores); err != nil || len(found) != 3 {
		t.Errorf("found %q, %v; want two mounts and a loop device", found, err)
	}
	if err := d.cleanUp(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	if found, err := leftovers(filepath.Dir(other.Path), nil); err != nil || len(found) != 2 {
		t.Errorf("of another folder there is %q, %v; want its mount and loop device", found, err)
	}
}

func TestWhatIsMissingIsSaidPlainly(t *testing.T) {
	dir := harness.Dir(t)
	if _, _, err := preflight(filepath.Join(dir, "none"), ""); err == nil || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("no driver: %v", err)
	}
	driver := filepath.Join(dir, "driver")
	if err := os.WriteFile(driver, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := preflight(driver, dir); err == nil || !strings.Contains(err.Error(), "not on ext4, xfs or btrfs") {
		t.Errorf("a folder on tmpfs: %v", err)
	}
	small := harness.NewDisk(t, "ext4", 64<<20)
	if _, _, err := preflight(driver, small.Path); err == nil || !strings.Contains(err.Error(), "2 GiB are needed") {
		t.Errorf("a small disk: %v", err)
	}
	t.Setenv("PATH", dir)
	if _, _, err := preflight(driver, ""); err == nil || !strings.Contains(err.Error(), "mkfs.xfs") {
		t.Errorf("no tools: %v", err)
	}
}
