package mount

import (
	"context"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// The ioctls FIFREEZE and FITHAW of linux/fs.h; the direction bits differ between architectures and are taken from two
// that x/sys knows for each.
const (
	iocBoth = unix.FS_IOC_GETFLAGS&0xE0000000 | unix.FS_IOC_SETFLAGS&0xE0000000
	freeze  = iocBoth | 4<<16 | 'X'<<8 | 119
	thaw    = iocBoth | 4<<16 | 'X'<<8 | 120
)

// Filesystem is the open root of a mount, by which its file system is synced, frozen and thawed whatever becomes of the
// path.
type Filesystem struct {
	dir  *os.File
	path string
}

// OpenFilesystem opens the root of what is mounted at a path. verify judges it by the descriptor; its error ends the
// call.
func (m *Mounter) OpenFilesystem(path string, verify func(Point) error) (*Filesystem, error) {
	fs, err := openFilesystem(path, verify)
	return fs, fault.Wrap(err, "open the file system at", path)
}

func openFilesystem(path string, verify func(Point) error) (*Filesystem, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return nil, fault.New(kindOf(err), "%w", err)
	}
	f := &Filesystem{dir: os.NewFile(uintptr(fd), path), path: path}
	p, err := inspectFD(fd)
	if err == nil {
		err = verify(p)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close lets go of the mount. What is frozen stays so.
func (f *Filesystem) Close() { _ = f.dir.Close() }

// Sync makes all of the file system durable (syncfs(2)).
func (f *Filesystem) Sync() error { return f.wrap("sync", unix.Syncfs(int(f.dir.Fd()))) }

// Freeze makes the file system's writers wait until Thaw, and its storage hold all that they wrote before
// (ioctl_fsfreeze: FIFREEZE). Frozen already, by whomever, is fault.Busy; one that can't be is fault.Precondition.
func (f *Filesystem) Freeze(ctx context.Context) error {
	return f.wrap("freeze", step.Do(ctx, "freeze "+f.path, func() error { return f.ioctl(freeze) }))
}

// Thaw ends Freeze (FITHAW). What isn't frozen is success.
func (f *Filesystem) Thaw(ctx context.Context) error {
	err := step.Do(ctx, "thaw "+f.path, func() error { return f.ioctl(thaw) })
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return f.wrap("thaw", err)
}

func (f *Filesystem) ioctl(request uintptr) error {
	for {
		var arg int32
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.dir.Fd(), request, uintptr(unsafe.Pointer(&arg)))
		switch {
		case errno == 0:
			return nil
		case !errors.Is(errno, unix.EINTR):
			return errno
		}
	}
}

func (f *Filesystem) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		kind = fault.Precondition
	}
	return fault.Wrap(fault.New(kind, "%w", err), op+" the file system at", f.path)
}
