package rows

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Mistakes of a directory's settings.
func (s directoryStorage) Mistakes(name string) []Mistake {
	at := func(path string) harness.Datastore { return harness.Directory(name, path) }
	return []Mistake{
		{"a path twice", s.Datastore(name), name},
		{"a relative path", at("srv/x"), "srv/x"},
		{"the root", at("/"), `"/"`},
		{"a path with a parent", at("/srv/../etc"), "/srv/../etc"},
	}
}

func (s directoryStorage) Foreign(t testing.TB) harness.Camera {
	t.Helper()
	outside := harness.Dir(t)
	put := func(path string, bytes int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := (harness.Data{Seed: path, Bytes: bytes}).WriteFile(path); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(outside, "secret", "disk.img"), 1<<20)
	put(filepath.Join(outside, "secret", "meta.json"), 100)
	mine := filepath.Join(s.Path, "home of somebody")
	put(filepath.Join(mine, "thesis.txt"), 1<<20)
	put(filepath.Join(mine, ".hidden", "deep", "file"), 10)
	link("/", filepath.Join(mine, "root"))
	planted := make([]string, len(Planted()))
	for i, name := range Planted() {
		planted[i] = name + "-deadbeef"
	}
	volumes := filepath.Join(s.Path, "volumes")
	put(filepath.Join(volumes, "foreign", "disk.img"), 1<<20)
	put(filepath.Join(volumes, planted[0], "disk.img"), 1<<20)
	put(filepath.Join(volumes, planted[1], "meta.json"), 4096)
	put(filepath.Join(volumes, "a file"), 10)
	link(filepath.Join(outside, "secret"), filepath.Join(volumes, "evil"))
	link(filepath.Join(outside, "secret"), filepath.Join(volumes, planted[2]))
	return harness.Camera{Files: []string{
		outside, mine, filepath.Join(volumes, "foreign"), filepath.Join(volumes, "a file"), filepath.Join(volumes, "evil"),
		filepath.Join(volumes, planted[0]),
		filepath.Join(volumes, planted[1]),
		filepath.Join(volumes, planted[2]),
	}}
}
