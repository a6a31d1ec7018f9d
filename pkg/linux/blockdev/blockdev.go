// Package blockdev tells facts of block devices, asked of the kernel by ioctl and sysfs, and moves their bytes.
//
// What takes a path opens the device for reading, closes it again and changes nothing; what changes a device (Zero,
// Discard, Copy) takes an open one, so that it stays the one that was proven. A device that has gone or is no block
// device is an error that names it, never a zero value.
package blockdev

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Size returns the size of a block device in bytes (BLKGETSIZE64, block/ioctl.c). A device of size 0
// has no medium or isn't connected yet: fault.Unavailable.
func Size(path string) (int64, error) {
	var size uint64
	err := withDevice(path, "read the size of", func(fd int) error {
		// x/sys has no wrapper that takes an ioctl's answer as an unsigned 64-bit number.
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return sane(path, size)
}

func sane(path string, size uint64) (int64, error) {
	if size == 0 || size > math.MaxInt64 {
		return 0, fault.New(fault.Unavailable, "block device %s says that it has %d bytes: it has no medium or isn't connected", path, size)
	}
	return int64(size), nil
}

// ReadOnly tells whether the kernel refuses writes to a block device (BLKROGET).
func ReadOnly(path string) (ro bool, err error) {
	err = withDevice(path, "read the write protection of", func(fd int) error {
		v, err := unix.IoctlGetInt(fd, unix.BLKROGET)
		ro = v != 0
		return err
	})
	return ro, err
}

// LogicalSectorSize returns the smallest unit that a block device reads and writes, in bytes (BLKSSZGET).
func LogicalSectorSize(path string) (size int, err error) {
	err = withDevice(path, "read the sector size of", func(fd int) error {
		size, err = unix.IoctlGetInt(fd, unix.BLKSSZGET)
		return err
	})
	return size, err
}

// Number returns the device number that a device node stands for. The device isn't opened.
func Number(path string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, failure("examine", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, notBlock(path)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// DiscardMaxBytes returns how many bytes one discard may cover; 0 says that the device takes none
// (queue/discard_max_bytes, Documentation/ABI/stable/sysfs-block). A partition answers for its disk.
func DiscardMaxBytes(path string) (int64, error) {
	major, minor, err := Number(path)
	if err != nil {
		return 0, err
	}
	// The link leads to the device's folder; a partition's folder lies in its disk's.
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return 0, failure("find in sysfs", path, err)
	}
	const attribute = "queue/discard_max_bytes"
	text, err := os.ReadFile(filepath.Join(dir, attribute))
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(filepath.Join(filepath.Dir(dir), attribute))
	}
	if err != nil {
		return 0, failure("read "+attribute+" of", path, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fault.New(fault.Internal, "%s of block device %s is %q, which is no number of bytes", attribute, path, text)
	}
	return n, nil
}

// withDevice opens a block device, hands its descriptor on and closes it.
func withDevice(path, what string, ask func(fd int) error) error {
	fd, err := open(path)
	if err != nil {
		return failure("open", path, err)
	}
	defer func() { _ = unix.Close(fd) }() // read only: nothing can be lost
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failure("examine", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return notBlock(path)
	}
	if err := ask(fd); err != nil {
		return failure(what, path, err)
	}
	return nil
}

// open doesn't wait for a medium, nor for the other end where the path is a pipe.
func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func notBlock(path string) error {
	return fault.New(fault.Precondition, "%s is no block device", path)
}

// failure says what could not be done, and that it may be possible later unless the reason is another.
func failure(what, path string, err error) error {
	kind := fault.Unavailable
	switch {
	case errors.Is(err, os.ErrNotExist):
		kind = fault.NotFound
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.ENOTTY):
		kind = fault.Internal
	case errors.Is(err, unix.ENOSPC):
		kind = fault.Exhausted // a thin device whose pool is full
	}
	return fault.New(kind, "can't %s block device %s: %w", what, path, err)
}
