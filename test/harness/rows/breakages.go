package rows

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Breakages of a directory. They are for a pool that is open: its marker stands.
func (s directoryStorage) Breakages() []Breakage {
	marker := filepath.Join(s.Path, ".datastore-csi", "pool.json")
	return []Breakage{
		{Name: "frozen", Hangs: true, Break: func(t testing.TB) func() { return s.Freeze(t) }},
		{Name: "read-only", Idle: true, Serves: true, Break: func(t testing.TB) func() {
			check(t, s.Remount(unix.MS_RDONLY))
			return func() { check(t, s.Remount(0)) }
		}},
		{Name: "marker gone", Break: func(t testing.TB) func() {
			check(t, os.Rename(marker, marker+".away"))
			return func() { check(t, os.Rename(marker+".away", marker)) }
		}},
		{Name: "marker of a stranger", Break: func(t testing.TB) func() {
			was, err := os.ReadFile(marker)
			check(t, err)
			check(t, os.WriteFile(marker, []byte(`{"layout":1,"pool":"0b0e7a3a-0000-4000-8000-000000000000"}`), 0o600))
			return func() { check(t, os.WriteFile(marker, was, 0o600)) }
		}},
		{Name: "path is a link", Break: func(t testing.TB) func() { // the disk moved aside, a link to it in its place
			aside := s.Path + "-aside"
			check(t, os.Mkdir(aside, 0o755))
			check(t, unix.Mount(s.Path, aside, "", unix.MS_MOVE, ""))
			check(t, os.Remove(s.Path))
			check(t, os.Symlink(aside, s.Path))
			return func() {
				check(t, os.Remove(s.Path))
				check(t, os.Mkdir(s.Path, 0o755))
				check(t, unix.Mount(aside, s.Path, "", unix.MS_MOVE, ""))
				check(t, os.Remove(aside))
			}
		}},
		{Name: "not mounted", Break: func(t testing.TB) func() {
			aside := s.Path + "-aside"
			check(t, os.Mkdir(aside, 0o755))
			check(t, unix.Mount(s.Path, aside, "", unix.MS_MOVE, ""))
			return func() {
				check(t, unix.Mount(aside, s.Path, "", unix.MS_MOVE, ""))
				check(t, os.Remove(aside))
			}
		}},
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
