package recover_test

import (
	"context"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// The tests run in a sandbox: see harness.Main.
func TestMain(m *testing.M) {
	if at := os.Getenv(killedAt); at != "" {
		os.Exit(die(at, os.Args[1:]))
	}
	os.Exit(harness.Main(m))
}

func background() context.Context { return context.Background() }
