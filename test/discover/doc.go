// Package discover tests what `datastore-csi discover` tells of volume groups, thin pools and devices that lie: on the test
// bed's kernel, with the driver's binary.
package discover
