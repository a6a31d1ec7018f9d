// Package unreadable takes parts of a pool's disk away from under the driver, by device-mapper's error target, in a machine
// of the test bed.
package unreadable
