// Package power takes the machine away from under the driver: a power cut while volumes are written, made and deleted, and a
// restart without a goodbye. The machines are User-Mode Linux (test/testbed); the driver in them is the shipped binary, on
// disks that stay. After the start all calls are made again, as CSI's caller does.
//
// The test binary runs on both sides: as the tests on the host, and as the caller of CSI in the machine.
package power
