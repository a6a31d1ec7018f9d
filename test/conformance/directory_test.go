package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// onADirectory runs a test that is about paths, on one row of type directory.
func onADirectory(t *testing.T, test func(t *testing.T, s rows.Storage)) {
	t.Helper()
	t.Parallel()
	if harness.InMachine() {
		return // it needs no other kernel than the host's, where it runs
	}
	test(t, rows.Directory().Setup(t))
}

func TestADatastoreThatIsBrokenFromTheStartIsNamedAndComesWhenItIsMended(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		dir := harness.NewDisk(t, "ext4", gib).Path
		file, link, closed := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "no", "such")
		must(t, os.WriteFile(file, nil, 0o600))
		must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
		must(t, os.Symlink(filepath.Join(dir, "real"), link))
		beneath := filepath.Join(link, "sub")
		must(t, os.Mkdir(beneath, 0o755))
		broken := map[string]string{"missing": closed, "file": file, "link": link, "below-a-link": beneath}
		datastores := []harness.Datastore{s.Datastore(pool)}
		for name, path := range broken {
			datastores = append(datastores, harness.Directory(name, path))
		}
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: datastores}), Storage: s}
		serving(t, b.Driver, pool)
		for name, path := range broken {
			c := blockClaim()
			c.Parameters = in(name)
			refused(t, "create on the datastore "+name, b.Volume(t, c).Create(t.Context()), code(codes.Unavailable), name, path)
		}
		must(t, os.MkdirAll(closed, 0o755))
		serving(t, b.Driver, "missing")
	})
}

func TestTwoDatastoresInOnePlaceAreFound(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}}), Storage: s}
		serving(t, b.Driver, pool)
		path := s.Camera().Files[0]
		inner := filepath.Join(path, "inner")
		must(t, os.Mkdir(inner, 0o755))
		alias := filepath.Join(harness.Dir(t), "alias")
		must(t, os.Mkdir(alias, 0o755))
		must(t, harness.Run("mount", "--bind", path, alias))
		t.Cleanup(func() { must(t, harness.Run("umount", alias)) })
		reload(t, b.Driver, s.Datastore(pool), harness.Directory("inner", inner), harness.Directory("alias", alias))
		for _, name := range []string{"inner", "alias"} {
			c := blockClaim()
			c.Parameters = in(name)
			refused(t, "create on the datastore "+name, b.Volume(t, c).Create(t.Context()), code(codes.Unavailable), name, `"`+pool+`"`)
		}
		serving(t, b.Driver, pool)
		if entries, err := os.ReadDir(inner); err != nil || len(entries) > 0 {
			t.Errorf("the nested datastore was taken: %v, %v", entries, err)
		}
		must(t, b.SetDatastores(s.Datastore(pool)))
	})
}
