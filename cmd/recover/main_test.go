package recover_test

import (
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// The tests run in a sandbox: see harness.Main.
func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
