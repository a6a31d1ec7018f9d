package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const machineID = "0123456789abcdef0123456789abcdef"

func config(path string) embedded.Config {
	return embedded.Config{
		Path: path, Owner: embedded.Owner{Host: "node-1", MachineID: machineID}, Now: time.Now, NewUID: uuid.NewString,
	}
}

func newPath(tb testing.TB) string { return filepath.Join(tb.TempDir(), "store.db") }

func open(tb testing.TB, c embedded.Config) *embedded.DB {
	tb.Helper()
	db, err := embedded.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

// opened opens a store that is closed after the test.
func opened(t *testing.T, c embedded.Config) *embedded.DB {
	t.Helper()
	db := open(t, c)
	t.Cleanup(func() { closed(t, db) })
	return db
}

func closed(tb testing.TB, db *embedded.DB) {
	tb.Helper()
	if err := db.Close(); err != nil {
		tb.Errorf("close: %v", err)
	}
}

// refused opens what must not open, and returns why.
func refused(t *testing.T, c embedded.Config, kind fault.Kind, words ...string) {
	t.Helper()
	db, err := embedded.Open(t.Context(), c)
	if err == nil {
		closed(t, db)
		t.Fatal("the store opened")
	}
	if !fault.Is(err, kind) {
		t.Errorf("got kind %v, want %v: %v", fault.KindOf(err), kind, err)
	}
	for _, word := range append(words, c.Path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRecordsAreThereAgainAfterAnOpening(t *testing.T) {
	c := config(newPath(t))
	db := open(t, c)
	want := map[string]*v1alpha1.DatastoreVolume{}
	for i := range 50 {
		made, err := db.Store().Volumes.Create(t.Context(), volume(volumeName(i)))
		if err != nil {
			t.Fatal(err)
		}
		want[made.Name] = made
	}
	first, last := volumeName(0), want[volumeName(49)].ResourceVersion
	if err := db.Store().Volumes.Delete(t.Context(), first, ""); err != nil {
		t.Fatal(err)
	}
	var err error
	if want[first], err = db.Store().Volumes.Get(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	closed(t, db)

	again := opened(t, c)
	all, err := again.Store().Volumes.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*v1alpha1.DatastoreVolume{}
	for _, v := range all {
		got[v.Name] = v
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("after the second opening (-want +got):\n%s", diff)
	}
	made, err := again.Store().Volumes.Create(t.Context(), volume("later"))
	if err != nil {
		t.Fatal(err)
	}
	if made.ResourceVersion == last || made.ResourceVersion == want[first].ResourceVersion {
		t.Errorf("version %s came again", made.ResourceVersion)
	}
}

func TestAFileRemembersItsHostAndCluster(t *testing.T) {
	for name, c := range map[string]struct {
		first, later func(*embedded.Config)
		kind         fault.Kind
		words        []string
	}{
		"another host name": {
			later: func(c *embedded.Config) { c.Owner.Host = "node-2" },
			kind:  fault.Precondition, words: []string{`"node-1"`, `"node-2"`, "state folder"},
		},
		"another machine": {
			later: func(c *embedded.Config) { c.Owner.MachineID = "another" },
			kind:  fault.Precondition, words: []string{machineID, "another", "state folder"},
		},
		"another cluster than was given": {
			first: func(c *embedded.Config) { c.ClusterID = "cluster-1" },
			later: func(c *embedded.Config) { c.ClusterID = "cluster-2" },
			kind:  fault.Precondition, words: []string{`"cluster-1"`, `"cluster-2"`},
		},
		"another cluster than was made": {
			first: func(c *embedded.Config) { c.NewUID = func() string { return "made-1" } },
			later: func(c *embedded.Config) { c.ClusterID = "cluster-2" },
			kind:  fault.Precondition, words: []string{`"made-1"`, `"cluster-2"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := config(newPath(t))
			if c.first != nil {
				c.first(&before)
			}
			closed(t, open(t, before))
			was := content(t, before.Path)
			after := config(before.Path)
			c.later(&after)
			refused(t, after, c.kind, c.words...)
			if !bytes.Equal(content(t, before.Path), was) {
				t.Error("the file was changed")
			}
			closed(t, open(t, before))
		})
	}
}

func TestTheClusterIDIsMadeOnceOrTheOneGiven(t *testing.T) {
	c := config(newPath(t))
	db := open(t, c)
	made := db.ClusterID()
	if _, err := uuid.Parse(made); err != nil {
		t.Errorf("made %q: %v", made, err)
	}
	closed(t, db)
	for _, asked := range []string{"", made} {
		c.ClusterID = asked
		db = open(t, c)
		if db.ClusterID() != made {
			t.Errorf("asked for %q: got %q, want %q", asked, db.ClusterID(), made)
		}
		closed(t, db)
	}
	c = config(newPath(t))
	c.ClusterID = "given"
	if got := opened(t, c).ClusterID(); got != "given" {
		t.Errorf("got %q", got)
	}
}

func TestOpenRefusesWhatItCannotUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		alter func(*embedded.Config)
		kind  fault.Kind
		words []string
	}{
		"no path":             {func(c *embedded.Config) { c.Path = "" }, fault.Invalid, []string{"path"}},
		"no host":             {func(c *embedded.Config) { c.Owner.Host = "" }, fault.Invalid, []string{"host"}},
		"no machine-id":       {func(c *embedded.Config) { c.Owner.MachineID = "" }, fault.Invalid, []string{"machine-id"}},
		"no clock":            {func(c *embedded.Config) { c.Now = nil }, fault.Invalid, []string{"clock"}},
		"no maker of UIDs":    {func(c *embedded.Config) { c.NewUID = nil }, fault.Invalid, []string{"UIDs"}},
		"a missing folder":    {func(c *embedded.Config) { c.Path = filepath.Join(dir, "missing", "store.db") }, fault.NotFound, []string{"missing"}},
		"a folder":            {func(c *embedded.Config) { c.Path = dir }, fault.Precondition, nil},
		"a link on the way":   {func(c *embedded.Config) { c.Path = filepath.Join(dir, "link", "store.db") }, fault.Precondition, []string{"link"}},
		"a file in its place": {func(c *embedded.Config) { c.Path = "/dev/null/store.db" }, fault.Precondition, nil},
	} {
		t.Run(name, func(t *testing.T) {
			conf := config(filepath.Join(dir, "store.db"))
			c.alter(&conf)
			refused(t, conf, c.kind, c.words...)
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("the folder holds %v, %v", entries, err)
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := config(newPath(t))
	if _, err := embedded.Open(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
	if _, err := os.Stat(c.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func TestAFileIsForItsOwnerOnlyAndLeavesNoDrafts(t *testing.T) {
	c := config(newPath(t))
	draft := c.Path + ".new-of-a-crash"
	if err := os.WriteFile(draft, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened(t, c)
	entries, err := os.ReadDir(filepath.Dir(c.Path))
	if err != nil || len(entries) != 1 || entries[0].Name() != "store.db" {
		t.Fatalf("the folder holds %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestOfManyFirstOpeningsAtOnceOneWinsAndNoneIsLost(t *testing.T) {
	for range 20 {
		path := newPath(t)
		var wg sync.WaitGroup
		clusters := make(chan string, 4)
		for range cap(clusters) {
			wg.Go(func() {
				db, err := embedded.Open(t.Context(), config(path))
				switch {
				case err == nil:
					clusters <- db.ClusterID()
					closed(t, db)
				case fault.Is(err, fault.Busy), fault.Is(err, fault.NotFound): // held; its draft was swept
				default:
					t.Errorf("open: %v", err)
				}
			})
		}
		wg.Wait()
		close(clusters)
		kept := opened(t, config(path)).ClusterID()
		for c := range clusters {
			if c != kept {
				t.Errorf("one was told cluster %s, the file says %s", c, kept)
			}
		}
	}
}

func TestAnUnknownFormatIsNamed(t *testing.T) {
	c := config(newPath(t))
	closed(t, open(t, c))
	edit(t, c.Path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("store")).Put([]byte("identity"), []byte(`{"format":7,"host":"node-1","new":{}}`))
	})
	was := content(t, c.Path)
	refused(t, c, fault.Precondition, "format 7", "format 1")
	if !bytes.Equal(content(t, c.Path), was) {
		t.Error("the file was changed")
	}
}

// edit changes a closed file behind the store's back.
func edit(tb testing.TB, path string, change func(*bbolt.Tx) error) {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		tb.Fatal(err)
	}
}
