package embedded_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

func config(path string) embedded.Config {
	return embedded.Config{
		Path: path, Owner: embedded.Owner{Host: "node-1", MachineID: "0123456789abcdef0123456789abcdef"},
		Now: time.Now, NewUID: uuid.NewString,
	}
}

func open(tb testing.TB, c embedded.Config) *embedded.DB {
	tb.Helper()
	db, err := embedded.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

func newPath(tb testing.TB) string { return filepath.Join(tb.TempDir(), "store.db") }

// opened opens a store that is closed after the test.
func opened(t *testing.T, c embedded.Config) *embedded.DB {
	t.Helper()
	db := open(t, c)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}
