package loop

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

// identify returns an image's identity and its size in bytes.
func identify(image *os.File) (imageKey, int64, error) {
	var st unix.Stat_t
	err := control(image, func(fd int) error { return unix.Fstat(fd, &st) })
	if err != nil {
		return imageKey{}, 0, fmt.Errorf("stat image %s: %w", image.Name(), err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		if st.Size, err = blockdev.SizeOf(image); err != nil {
			return imageKey{}, 0, err
		}
	default:
		return imageKey{}, 0, fault.New(fault.Invalid, "image %s is neither a regular file nor a block device", image.Name())
	}
	return imageKey{st.Dev, st.Ino}, st.Size, nil
}

// reopen opens the image anew for a device. With a description of its own, the device keeps neither
// the caller's locks nor its flags alive. The caller closes the descriptor.
func reopen(image *os.File, readOnly bool) (int, error) {
	newFD, mode := -1, unix.O_RDWR
	if readOnly {
		mode = unix.O_RDONLY
	}
	err := control(image, func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		if !readOnly && flags&unix.O_ACCMODE != unix.O_RDWR {
			return fault.New(fault.Invalid, "the file is not open for reading and writing, and a writable device was asked for")
		}
		newFD, err = unix.Open("/proc/self/fd/"+strconv.Itoa(fd), mode|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fault.Wrap(err, "open image", image.Name())
	}
	return newFD, nil
}

// control runs f with the file's descriptor, which stays open as long.
func control(file *os.File, f func(fd int) error) error {
	c, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
