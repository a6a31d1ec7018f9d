package rows

import (
	"flag"
	"hash/fnv"
	"os"
	"strconv"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Variables that say how much is tested: test/faults tells more.
const (
	pointsVariable = "TEST_CRASH_POINTS"
	offsetVariable = "TEST_CRASH_OFFSET"
)

// turns is of how many days each has its part of what runs in a machine of the test bed: there starting a program takes
// twenty times as long, and LVM is one.
const turns = 3

// Today tells whether a test is to run on the n-th row now. In a machine of the test bed each day has a part of all tests on all
// rows, unless all are asked for or some are named (-run).
func Today(test string, n int) bool {
	named := flag.Lookup("test.run")
	if !harness.InMachine() || os.Getenv(pointsVariable) == "all" || named != nil && named.Value.String() != "" {
		return true
	}
	day := time.Now().YearDay()
	if at, err := strconv.Atoi(os.Getenv(offsetVariable)); err == nil {
		day = at
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(test)) // a hash doesn't fail
	return (int(h.Sum32()%turns)+n+day)%turns == 0
}
