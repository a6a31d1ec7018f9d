package file

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// level is a directory that a walk went down from, and the name that it went into.
type level struct {
	id   ID
	into string
}

// emptyDeep removes all that is in an open directory with two descriptors, however deep it is: it goes back by "..",
// and makes sure that it comes out where it went in. It returns the descriptor that is open at the end, in the place of
// the one that was given.
func (r *Root) emptyDeep(ctx context.Context, dir *os.File) (*os.File, error) {
	top := dir.Name()
	var above []level
	for {
		if err := ctx.Err(); err != nil {
			return dir, failed("remove", top, err)
		}
		into, err := strip(ctx, dir)
		if err != nil {
			return dir, failed("remove what is deep in", top, err)
		}
		if into != "" {
			id, err := idOf(dir)
			if err == nil {
				above = append(above, level{id, into})
				err = walk(&dir, into, beneath)
			}
			if err != nil {
				return dir, failed("remove what is deep in", top, err)
			}
			continue
		}
		if len(above) == 0 {
			return dir, nil
		}
		last := above[len(above)-1]
		above = above[:len(above)-1]
		if err := ascend(ctx, &dir, last); err != nil {
			return dir, failed("remove what is deep in", top, err)
		}
	}
}

// ascend goes from an empty directory to the one above it, and removes it there.
func ascend(ctx context.Context, dir **os.File, to level) error {
	if err := walk(dir, "..", unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV); err != nil {
		return err
	}
	id, err := idOf(*dir)
	if err != nil {
		return err
	}
	if id != to.id {
		return fault.New(fault.Busy, "somebody moved a directory of it meanwhile; try again")
	}
	return step.Do(ctx, "remove a deep directory", func() error { return force(*dir, to.into, unix.AT_REMOVEDIR) })
}

// walk puts a directory that is opened from another one into its place.
func walk(dir **os.File, name string, resolve uint64) error {
	fd, err := openat2(int((*dir).Fd()), name, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return err
	}
	release(*dir)
	*dir = os.NewFile(uintptr(fd), (*dir).Name())
	return nil
}

func idOf(dir *os.File) (ID, error) {
	info, err := statFD(int(dir.Fd()))
	return ID{Dev: info.Dev, Inode: info.Inode}, err
}

// fewNames is how many names are held of a directory that is read again for each directory in it.
const fewNames = 256

// strip removes from an open directory what is no directory, and what is an empty one. It returns the name of one that
// isn't empty; "" when nothing is left.
func strip(ctx context.Context, dir *os.File) (into string, err error) {
	for {
		// From the start again: what a directory yields after entries of it went is not defined.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		names, err := dir.Readdirnames(fewNames)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if len(names) == 0 {
			return "", nil
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			err := step.Do(ctx, "remove deep in a directory", func() error { return force(dir, name, 0) })
			if errors.Is(err, unix.EISDIR) {
				err = step.Do(ctx, "remove deep in a directory", func() error { return force(dir, name, unix.AT_REMOVEDIR) })
			}
			if errors.Is(err, unix.ENOTEMPTY) {
				return name, nil
			}
			if err != nil {
				return "", err
			}
		}
	}
}

// FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h.
const locked = 0x00000010 | 0x00000020

// force is unlinkat, and takes off what chattr(1) put on the file or on its directory to keep it.
func force(dir *os.File, base string, flags int) error {
	err := unlinkat(dir, base, flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, open := openat2(int(dir.Fd()), base, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: beneath})
	if open == nil {
		open = unlock(fd)
		_ = unix.Close(fd) // nothing was written to it
	}
	if inDir := unlock(int(dir.Fd())); open != nil && inDir != nil {
		return err
	}
	return unlinkat(dir, base, flags)
}

// unlock makes a file or directory removable.
func unlock(fd int) error {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&locked == 0 {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^locked))
}
