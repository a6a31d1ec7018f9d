package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// failed names what was tried on what, and gives a system call's error its kind.
func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	kind, hint := meaning(err)
	if hint != "" {
		err = fmt.Errorf("%s: %w", hint, err)
	}
	return &fault.Error{Kind: kind, Op: op, Object: path, Err: err}
}

// meaning returns what an error number of the file system calls means here, and a hint where its own
// words mislead.
func meaning(err error) (fault.Kind, string) {
	var no unix.Errno
	if !errors.As(err, &no) {
		return fault.KindOf(err), ""
	}
	switch no {
	case unix.ENOENT:
		return fault.NotFound, ""
	case unix.EEXIST:
		return fault.Exists, ""
	case unix.ELOOP:
		return fault.Precondition, "symbolic links are not followed"
	case unix.EXDEV:
		return fault.Precondition, "other mounts are not entered"
	case unix.EBUSY:
		return fault.Precondition, "it is in use or a mount point"
	case unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EPERM, unix.EACCES:
		// EACCES too: root is refused by a security module, which somebody has to change.
		return fault.Precondition, ""
	case unix.ENOSPC, unix.EDQUOT:
		return fault.Exhausted, ""
	case unix.EFBIG:
		return fault.OutOfRange, "the file system can't hold a file as large"
	case unix.EROFS:
		return fault.Unavailable, "the file system is mounted read-only"
	case unix.EIO, unix.ESTALE, unix.EUCLEAN, unix.ENODEV, unix.ENXIO, unix.ESHUTDOWN:
		return fault.Unavailable, "the file system or its device fails"
	case unix.EINVAL, unix.ENAMETOOLONG:
		return fault.Invalid, ""
	}
	return fault.Internal, ""
}
