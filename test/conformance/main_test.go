package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// parallel is how many tests run at once: they wait for disks and timers more than they compute.
const parallel = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := parallel
	if harness.InMachine() {
		parallel = "2" // on one CPU
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(harness.Main(m))
}
