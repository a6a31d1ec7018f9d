package embedded_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

func TestIdentifySaysWhoseAFileIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	if _, _, err := embedded.Identify(path); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
	want := embedded.Owner{Host: "node-1", MachineID: "m"}
	db, err := embedded.Open(t.Context(), embedded.Config{Path: path, Owner: want, ClusterID: "red", Now: time.Now, NewUID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := embedded.Identify(path); !fault.Is(err, fault.Busy) {
		t.Errorf("an open file: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner, cluster, err := embedded.Identify(path); err != nil || owner != want || cluster != "red" {
		t.Errorf("%+v of cluster %q, %v", owner, cluster, err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it was changed, %v", err)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := embedded.Identify(path); !fault.Is(err, fault.DataLoss) {
		t.Errorf("a damaged file: %v", err)
	}
}
