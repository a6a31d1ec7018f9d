package faults

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// parallel is how many rows run at once.
const parallel = "4"

func TestMain(m *testing.M) {
	if crash.Asked() {
		os.Exit(crash.Run(os.Args))
	}
	onlyPoint() // defines its flag
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
