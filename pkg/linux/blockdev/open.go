package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Mode says how Open opens a device.
type Mode struct {
	// Write opens it for writing too.
	Write bool
	// Exclusive claims it (open(2), O_EXCL on a block device): nobody can mount it or claim it until it is closed.
	// One that is mounted or claimed already is fault.Precondition. Plain openers don't count.
	Exclusive bool
	// Direct reads and writes past the page cache, so that the answer is the device's own. Buffers, offsets and
	// lengths must be multiples of the sector size: see Aligned.
	Direct bool
}

// Open opens a block device. What is no block device is fault.Precondition; one that is gone fault.NotFound; one that is
// there and doesn't answer fault.Unavailable. It may block as long as the device does.
func Open(path string, m Mode) (*os.File, error) {
	flags := unix.O_CLOEXEC | unix.O_NONBLOCK // wait for no medium, and for no other end of a pipe
	if m.Write {
		flags |= unix.O_RDWR
	}
	if m.Exclusive {
		flags |= unix.O_EXCL
	}
	if m.Direct {
		flags |= unix.O_DIRECT
	}
	// Looked at first: opening may do something to what is no block device (a tape rewinds).
	if _, _, err := Number(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fault.New(fault.Precondition, "block device %s is in use: it is mounted, or device-mapper, md or swap holds it", path)
	}
	if err != nil {
		return nil, failure("open", path, cause(err))
	}
	if _, _, err := NumberOf(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// NumberOf returns the device number of an open block device.
func NumberOf(f *os.File) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, failure("examine", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, notBlock(f.Name())
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// SizeOf is Size of an open device.
func SizeOf(f *os.File) (int64, error) {
	var size uint64
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, failure("read the size of", f.Name(), err)
	}
	return sane(f.Name(), size)
}

// SectorSizeOf is LogicalSectorSize of an open device.
func SectorSizeOf(f *os.File) (int, error) {
	size, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return 0, failure("read the sector size of", f.Name(), err)
	}
	return size, nil
}

// Sync brings all that was written to an open device to its medium (fsync(2), a flush of its cache).
func Sync(f *os.File) error {
	if err := f.Sync(); err != nil {
		return failure("flush", f.Name(), cause(err))
	}
	return nil
}

// alignment of buffers for direct reading and writing, in bytes: the largest logical sector.
const alignment = 4096

// Aligned returns a buffer of n zeroes that a device which is open directly can be read into.
func Aligned(n int) []byte {
	b := make([]byte, n+alignment)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % alignment)
	return b[skip : skip+n : skip+n]
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}

// cause is the number in an error of package os, which names the path once more.
func cause(err error) error {
	if no := unix.Errno(0); errors.As(err, &no) {
		return no
	}
	return err
}

// Sequence returns a number that the kernel gives to no other disk while it runs (BLKGETDISKSEQ, Linux 5.15), so that one
// that came back under a device number is told from the one that had it; 0 where the kernel has none.
func Sequence(f *os.File) (uint64, error) {
	const request = 0x80081280 // _IOR(0x12, 128, __u64), the same on all that Linux 5.15 runs on but mips, powerpc and sparc
	var n uint64
	err := ioctl(f, request, unsafe.Pointer(&n))
	if errors.Is(err, unix.ENOTTY) {
		return 0, nil
	}
	if err != nil {
		return 0, failure("read the sequence number of", f.Name(), err)
	}
	return n, nil
}

// IsPartition tells whether an open block device is a partition of a disk.
func IsPartition(f *os.File) (bool, error) {
	major, minor, err := NumberOf(f)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d/partition", major, minor))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, failure("find in sysfs", f.Name(), cause(err))
	}
	return true, nil
}

// Node returns the path below /dev that the kernel gives an open block device, whatever path it was opened by. That it leads
// to the device is made sure of.
func Node(f *os.File) (string, error) {
	major, minor, err := NumberOf(f)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return "", failure("find in sysfs", f.Name(), cause(err))
	}
	path := "/dev/" + strings.ReplaceAll(filepath.Base(dir), "!", "/") // the kernel's writing of a slash there
	is, it, err := Number(path)
	if err != nil {
		return "", err
	}
	if is != major || it != minor {
		return "", fault.New(fault.Precondition, "%s is block device %d:%d, the kernel's %s is %d:%d: remove the wrong node", path, is, it, path, major, minor)
	}
	return path, nil
}
