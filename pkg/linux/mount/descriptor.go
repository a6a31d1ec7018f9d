package mount

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// openPath opens path itself, whatever it is, without reading it: a symbolic link is opened as such.
func openPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// closeFD closes a descriptor that holds no written data, so that there is no error to be told.
func closeFD(fd int) { _ = unix.Close(fd) }

// openTarget opens what a mount is to be put on: a directory or a regular file on which nothing is
// mounted. The caller closes the descriptor.
func openTarget(path string) (int, Point, error) {
	if err := CheckPath(path); err != nil {
		return -1, Point{}, err
	}
	fd, err := openPath(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, Point{}, fault.New(fault.NotFound, "target %s is not there: %w", path, err)
	}
	if err != nil {
		return -1, Point{}, fault.New(kindOf(err), "open target %s: %w", path, err)
	}
	p, err := inspectFD(fd)
	switch {
	case err != nil:
		err = fault.New(kindOf(err), "inspect target %s: %w", path, err)
	case p.IsMount:
		err = fault.New(fault.Busy, "target %s has a mount on it already: unmount it first", path)
	case !p.IsDir && !p.Mode.IsRegular():
		err = fault.New(fault.Precondition, "target %s is %s: a directory or a regular file is needed", path, p.kind())
	}
	if err != nil {
		closeFD(fd)
		return -1, Point{}, err
	}
	return fd, p, nil
}

// place puts a mount that nobody can see yet onto an opened target.
func place(mountFD, targetFD int) error {
	return unix.MoveMount(mountFD, "", targetFD, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// kindOf classifies what the kernel answers about a device, a file system or a path.
func kindOf(err error) fault.Kind {
	for _, c := range []struct {
		kind   fault.Kind
		errnos []error
	}{
		{fault.Busy, []error{unix.EBUSY}},
		{fault.NotFound, []error{unix.ENOENT, unix.ENOTDIR}},
		{fault.Unavailable, []error{unix.EIO, unix.ENXIO, unix.ESTALE, unix.ENOTCONN, unix.ENOMEM, unix.ETIMEDOUT, unix.ENOLINK}},
		{fault.Precondition, []error{unix.EUCLEAN, unix.EBADMSG, unix.EROFS, unix.EACCES, unix.ENOTBLK, unix.EINVAL, unix.ELOOP, unix.ENODEV, unix.EPERM, unix.EFBIG}},
	} {
		for _, e := range c.errnos {
			if errors.Is(err, e) {
				return c.kind
			}
		}
	}
	return fault.KindOf(err)
}

// perm returns the permission bits of a mode as system calls take them.
func perm(mode fs.FileMode) uint32 { return uint32(mode.Perm()) }
