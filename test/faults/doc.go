// Package faults stops the driver at every point of a volume's life and looks at what is left.
//
// A crash point is a change of the world on behalf of a volume (pkg/step). The matrix runs a life once and counts its points.
// Then, for each of them: photograph the machine, run the life with a driver that dies by SIGKILL just before that change,
// start it again, repeat the call that was interrupted, check the data, end the life, let the driver reclaim, photograph
// again: both pictures are equal.
//
// The driver is the test binary itself, run again (package crash): the shipped binary has no
// switch to crash. Which points are tried:
//
//	TEST_CRASH_POINTS=all     all points of all rows and kinds of volume, and those where recovery is killed as well
//	TEST_CRASH_OFFSET=1       which of the points are tried on rows that take every n-th; default: by the day
//	go test ./test/faults/ -run '/directory-ext4/ext4' -crash.at 17    one point, to look at it
package faults
