package btrfs

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceStats is struct btrfs_ioctl_get_dev_stats.
type deviceStats struct {
	device, items, flags uint64
	// values are errors of writing, reading and flushing, checksums that are wrong, and generations that are.
	values [5]uint64
	_      [121]uint64
}

const (
	sizeOfStats = 1032
	iocStats    = iocRead | iocWrite | sizeOfStats<<16 | magic<<8 | 52 // BTRFS_IOC_GET_DEV_STATS
)

// maxDevices bounds the numbers of devices that are asked for their errors.
const maxDevices = 64

// DeviceErrors returns how many errors of its devices the btrfs that an open file lies on has counted since somebody
// last set them to 0 (btrfs-device(8), stats).
func DeviceErrors(f *os.File) (int64, error) {
	var sum uint64
	for id := uint64(1); id <= maxDevices; id++ {
		a := deviceStats{device: id, items: uint64(len(deviceStats{}.values))}
		err := ioctl(f, iocStats, unsafe.Pointer(&a))
		if err == unix.ENODEV { //nolint:errorlint // as the call above returned it
			continue // numbers of removed devices aren't given again
		}
		if err != nil {
			return 0, failed("read the errors of the devices of", f, "", err)
		}
		for _, n := range a.values {
			sum += n
		}
	}
	return clamp(sum), nil
}
