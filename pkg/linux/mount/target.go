package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
	mountutils "k8s.io/mount-utils"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// MakeDirTarget makes the directory path with exactly the permissions of mode; its parent must be
// there. A directory that is there already is left as it is (created is false); anything else is
// fault.Precondition.
func (m *Mounter) MakeDirTarget(ctx context.Context, path string, mode fs.FileMode) (created bool, err error) {
	return m.makeTarget(ctx, path, "directory", func(p Point) bool { return p.IsDir }, func() error {
		if err := unix.Mkdir(path, perm(mode)); err != nil {
			return err
		}
		return chmodNew(path, unix.O_DIRECTORY, perm(mode)) // mkdir(2) took the umask's bits away
	})
}

// MakeFileTarget makes the empty regular file path with exactly the permissions of mode, onto which a
// device node can be bound; its parent must be there. A regular file, or a mount on a file, that is
// there already is left as it is (created is false); anything else is fault.Precondition.
func (m *Mounter) MakeFileTarget(ctx context.Context, path string, mode fs.FileMode) (created bool, err error) {
	fits := func(p Point) bool { return p.Mode.IsRegular() || p.IsMount && !p.IsDir }
	return m.makeTarget(ctx, path, "regular file", fits, func() error {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_RDONLY, perm(mode))
		if err != nil {
			return err
		}
		defer closeFD(fd)
		return unix.Fchmod(fd, perm(mode))
	})
}

// chmodNew sets the permissions of what was just made at path.
func chmodNew(path string, flags int, mode uint32) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return unix.Fchmod(fd, mode)
}

// makeTarget makes what is not there yet, and judges what is.
func (m *Mounter) makeTarget(ctx context.Context, path, kind string, fits func(Point) bool, create func() error) (bool, error) {
	op := "make target " + kind
	p, err := m.Inspect(ctx, path)
	if err != nil {
		return false, fault.Wrap(err, op, path)
	}
	if !p.Exists {
		err = step.Do(ctx, "mount: make "+kind+" "+path, create)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return false, fault.Wrap(fault.New(kindOf(err), "%w", err), op, path)
		}
		// Somebody was faster: what they made is judged like any other.
		if p, err = m.Inspect(ctx, path); err != nil {
			return false, fault.Wrap(err, op, path)
		}
	}
	if p.Corrupted {
		return false, fault.Wrap(fault.New(fault.Precondition, "it is %s: unmount it first", p.kind()), op, path)
	}
	if !fits(p) {
		return false, fault.Wrap(fault.New(fault.Precondition, "it is there already and is %s: move it away", p.kind()), op, path)
	}
	return false, nil
}

// RemoveTarget removes path where it is an empty directory or an empty regular file; what is not there
// is success. A mount point, a symbolic link, a directory with anything in it, a file with content
// and all other kinds are left untouched: fault.Precondition.
func (m *Mounter) RemoveTarget(ctx context.Context, path string) error {
	return fault.Wrap(m.removeTarget(ctx, path), "remove target", path)
}

func (m *Mounter) removeTarget(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckPath(path); err != nil {
		return err
	}
	size, p, err := measure(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil
	case mountutils.IsCorruptedMnt(err):
		return fault.New(fault.Precondition, "it is %s: unmount it first; it was left untouched: %w", Point{Exists: true, Corrupted: true}.kind(), err)
	case err != nil:
		return fault.New(kindOf(err), "inspect it: %w", err)
	case p.IsMount:
		return fault.New(fault.Precondition, "something is mounted on it: unmount it first; it was left untouched")
	case !p.IsDir && !p.Mode.IsRegular():
		return fault.New(fault.Precondition, "it is %s, which the driver never makes; it was left untouched: look at it and remove it by hand", p.kind())
	case p.Mode.IsRegular() && size > 0:
		return leftover(fmt.Errorf("the file holds %d bytes", size))
	}
	err = step.Do(ctx, "mount: remove target "+path, func() error {
		if p.IsDir {
			return unix.Rmdir(path)
		}
		return unix.Unlink(path)
	})
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return leftover(err)
	case errors.Is(err, unix.EBUSY):
		return fault.New(fault.Precondition, "something is mounted on it: unmount it first; it was left untouched: %w", err)
	}
	return fault.New(kindOf(err), "%w", err)
}

// leftover is the error for what was written where the volume should have been mounted.
func leftover(cause error) error {
	return fault.New(fault.Precondition, "something was written there while no volume was mounted; it was left untouched: save what is needed and empty it by hand: %w", cause)
}

// measure returns what path is and its size in bytes, with the kernel's own errors.
func measure(path string) (int64, Point, error) {
	fd, err := openPath(path)
	if err != nil {
		return 0, Point{}, err
	}
	defer closeFD(fd)
	p, err := inspectFD(fd)
	if err != nil {
		return 0, Point{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, Point{}, err
	}
	return st.Size, p, nil
}

// SetMode sets the permissions of the directory path, on which nothing may be mounted
// (fault.Precondition: it would be the volume's own mode). Mode 0 keeps everybody but root from
// writing into a staging directory while its volume is not there.
func (m *Mounter) SetMode(ctx context.Context, path string, mode fs.FileMode) error {
	return fault.Wrap(m.setMode(ctx, path, mode), "set the mode of", path)
}

func (m *Mounter) setMode(ctx context.Context, path string, mode fs.FileMode) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckPath(path); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fault.New(fault.Precondition, "it is no directory: %w", err)
	}
	if err != nil {
		return fault.New(kindOf(err), "open it: %w", err)
	}
	defer closeFD(fd)
	p, err := inspectFD(fd)
	switch {
	case err != nil:
		return fault.New(kindOf(err), "inspect it: %w", err)
	case p.IsMount:
		return fault.New(fault.Precondition, "something is mounted on it, whose mode is not to be changed: unmount it first")
	case p.Mode.Perm() == mode.Perm():
		return nil
	}
	return step.Do(ctx, "mount: set mode of "+path, func() error { return unix.Fchmod(fd, perm(mode)) })
}
