// Package disks tests type disk on SCSI disks with World Wide Identifiers, and on disks that lie, in a machine of the test bed.
package disks
