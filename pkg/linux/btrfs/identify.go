package btrfs

import (
	"os"
	"unsafe"

	"github.com/google/uuid"
)

// Identify returns the UUID of the btrfs that an open file lies on, in its usual form, and the number of its devices.
func Identify(f *os.File) (id string, devices int64, err error) {
	var a filesystemInfo
	if err := ioctl(f, iocInfo, unsafe.Pointer(&a)); err != nil {
		return "", 0, failed("read the UUID of", f, "", err)
	}
	return uuid.UUID(a.uuid).String(), clamp(a.devices), nil
}
