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

// Clone makes an open, empty file share all blocks of another one on the same file system (ioctl_ficlone(2)),
// and tells whether the file system can: where it can't, nothing is changed and nothing is wrong. What the copy
// holds is the source at one instant, whoever writes to it meanwhile. It is durable after Sync. On btrfs
// both must be overwritten in place, or neither (SetNoCow).
func Clone(ctx context.Context, to, from *os.File) (can bool, err error) {
	err = step.Do(ctx, "share the blocks of "+lastOf(from.Name())+" with "+lastOf(to.Name()), func() error {
		return clone(to, from)
	})
	if cannot(err) {
		return false, nil
	}
	return err == nil, failed("share the blocks of "+from.Name()+" with", to.Name(), err)
}

func clone(to, from *os.File) error {
	return retry(func() error { return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) })
}

// cannot tells whether a file system knows no shared blocks at all (ioctl_ficlone(2), ERRORS). xfs that was made
// without reflink answers EOPNOTSUPP, others ENOTTY.
func cannot(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS)
}

// CanClone finds out whether files beneath the root can share blocks, by sharing one of a file that has no name; where
// the file system is full, none: it answers all the same. A read-only one can't be asked: that is an error, and no
// answer.
func (r *Root) CanClone() (bool, error) {
	from, err := r.nameless()
	if err != nil {
		return false, err
	}
	defer release(from)
	to, err := r.nameless()
	if err != nil {
		return false, err
	}
	defer release(to)
	if _, err := from.Write(make([]byte, probed)); err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return false, failed("write in", r.path, err)
	}
	err = clone(to, from)
	if cannot(err) {
		return false, nil
	}
	return err == nil, failed("share blocks in", r.path, err)
}

// probed is as much as the largest block of a file system on this architecture.
const probed = 64 << 10

// nameless makes a file that goes when it is closed (open(2), O_TMPFILE).
func (r *Root) nameless() (*os.File, error) {
	fd, err := openat2(int(r.dir.Fd()), ".", unix.OpenHow{
		Flags: unix.O_TMPFILE | unix.O_EXCL | unix.O_RDWR | unix.O_CLOEXEC, Mode: 0o600, Resolve: beneath,
	})
	if err != nil {
		return nil, failed("make a file without a name in", r.path, err)
	}
	return os.NewFile(uintptr(fd), r.path), nil
}

// NoCow tells whether an open file on btrfs is overwritten in place, as SetNoCow makes it. It is false on file
// systems that know no such thing.
func NoCow(f *os.File) (bool, error) {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if cannot(err) {
		return false, nil
	}
	return flags&fsNoCow != 0, failed("ask for the flags of", f.Name(), err)
}

// Written tells whether anybody has an open regular file open for writing: a process, or a loop device for its
// image. Those that only read don't count. f must be open for reading only: a read lease is asked for
// and given back, which nobody gets while there is a writer (fcntl(2), F_SETLEASE).
func Written(f *os.File) (bool, error) {
	err := setLease(f, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return true, nil
	}
	if err == nil {
		err = setLease(f, unix.F_UNLCK)
	}
	return false, failed("ask who writes to", f.Name(), err)
}

func setLease(f *os.File, kind int) error {
	return retry(func() error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, kind)
		return err
	})
}

// NextData returns the first range of an open file at or behind an offset that holds data, the rest being holes
// that read as zeroes (lseek(2), SEEK_DATA). Behind the last one, start and end are the file's size. It
// moves the file's offset.
func NextData(f *os.File, offset int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		info, err := StatFile(f)
		return info.Bytes, info.Bytes, err
	}
	if err == nil {
		end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	}
	return start, end, failed("find the data of", f.Name(), err)
}

// moved is how many bytes are read and written at a time.
const moved = 1 << 20

// CopyRange copies a range of an open file to the same place in another, byte by byte: no block is shared, so that
// the copy keeps the space that was allocated for it. progress is told of each piece. It ends with ctx; a
// source that is shorter is fault.Precondition. It is durable after Sync.
func CopyRange(ctx context.Context, to, from *os.File, start, end int64, progress func(bytes int64)) error {
	buffer := make([]byte, moved)
	return step.Do(ctx, "copy data to "+lastOf(to.Name()), func() error {
		for at := start; at < end; {
			if err := ctx.Err(); err != nil {
				return failed("copy to", to.Name(), err)
			}
			n, err := from.ReadAt(buffer[:min(moved, end-at)], at)
			if n == 0 {
				if err == nil || errors.Is(err, io.EOF) {
					err = fault.New(fault.Precondition, "it ends at byte %d, wanted %d; it was changed meanwhile", at, end)
				}
				return failed("read", from.Name(), err)
			}
			if _, err := to.WriteAt(buffer[:n], at); err != nil {
				return failed("write", to.Name(), err)
			}
			at += int64(n)
			progress(int64(n))
		}
		return nil
	})
}

// Forget tells the kernel that the pages of a range of an open file, which should be durable, are not needed soon,
// so that a large copy doesn't push those of others out of memory (posix_fadvise(2)).
func Forget(f *os.File, start, end int64) {
	_ = unix.Fadvise(int(f.Fd()), start, end-start, unix.FADV_DONTNEED) // advice: nothing depends on it
}
