// Package sanity runs csi-sanity, the suite of the CSI project (kubernetes-csi/csi-test), against the
// driver: in the test's own process and against the binary, with mounted and with raw block volumes, on
// real loop devices and file systems. It needs root.
//
// The specs run in random order; `go test ./test/sanity/ -ginkgo.seed=N` repeats the order of a run that
// printed the seed N. No spec may fail, and those that are skipped must be the ones of the written list.
package sanity
