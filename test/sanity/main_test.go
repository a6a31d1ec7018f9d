package sanity_test

import (
	"flag"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// TestMain runs the tests in the sandbox, or, where a test started this binary once more to run a suite
// (Ginkgo allows one a process), that suite.
func TestMain(m *testing.M) {
	flag.Parse()
	if text, ok := os.LookupEnv(suiteVariable); ok {
		os.Exit(runSuite(text))
	}
	os.Exit(harness.Main(m))
}
