package crash

import (
	"os"
	"strconv"
	"time"
)

// Variables that say how many of the points are tried; see test/faults.
const (
	pointsVariable = "TEST_CRASH_POINTS"
	offsetVariable = "TEST_CRASH_OFFSET"
)

// All tells whether all points are to be tried.
func All() bool { return os.Getenv(pointsVariable) == "all" }

// Offset is which of the points are tried where only each n-th is: others every day.
func Offset(n int) int {
	if at, err := strconv.Atoi(os.Getenv(offsetVariable)); err == nil {
		return at % n
	}
	return time.Now().YearDay() % n
}

// Chosen tells whether a point is tried where only each n-th is.
func Chosen(point, n int) bool { return All() || point%n == Offset(n) }
