package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Open opens a regular file for reading. Anything else is fault.Precondition.
func (r *Root) Open(name string) (*os.File, error) { return r.openRegular(name, unix.O_RDONLY) }

// OpenWrite opens a regular file that is there for reading and writing. Anything else is
// fault.Precondition.
func (r *Root) OpenWrite(name string) (*os.File, error) { return r.openRegular(name, unix.O_RDWR) }

func (r *Root) openRegular(name string, mode uint64) (*os.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	// O_NONBLOCK, so that a named pipe in the file's place can't hold us.
	fd, err := r.openFD(name, mode|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, failed("open", r.full(name), err)
	}
	info, err := statFD(fd)
	if err == nil && !info.Mode.IsRegular() {
		err = fault.New(fault.Precondition, "it is no regular file (%s)", info.Mode.Type())
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written to it
		return nil, failed("open", r.full(name), err)
	}
	return os.NewFile(uintptr(fd), r.full(name)), nil
}

// ReadFile returns the content of a regular file of at most limit bytes; a longer one is fault.Precondition.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer release(f)
	data, err := readAll(f, limit+1)
	if err != nil {
		return nil, failed("read", r.full(name), err)
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Precondition, "read %s: it is longer than %d bytes", r.full(name), limit)
	}
	return data, nil
}

// readAll reads a file from where it stands to its end, or limit bytes. Knowing the length it needs two calls, where
// io.ReadAll begins with 512 bytes and asks again and again.
func readAll(f *os.File, limit int64) ([]byte, error) {
	info, err := statFD(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	data := bytes.NewBuffer(make([]byte, 0, min(max(0, info.Bytes), limit)+bytes.MinRead))
	_, err = data.ReadFrom(io.LimitReader(f, limit))
	return data.Bytes(), err
}

// ReadDir returns the names in a directory ("." is the root), sorted. With a limit above 0 it returns
// at most that many of them, whichever come first.
func (r *Root) ReadDir(name string, limit int) ([]string, error) {
	if err := checkDir(name); err != nil {
		return nil, err
	}
	dir, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, failed("open directory", r.full(name), err)
	}
	defer release(dir)
	if limit <= 0 {
		limit = -1
	}
	names, err := dir.Readdirnames(limit)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, failed("read directory", r.full(name), err)
	}
	slices.Sort(names)
	return names, nil
}

// Info is what a file is.
type Info struct {
	// Dev and Inode are the file's identity (st_dev, st_ino).
	Dev, Inode uint64
	// Mode is its type and permissions.
	Mode fs.FileMode
	// Bytes is its length, Allocated what it takes on the storage (st_blocks), in bytes.
	Bytes, Allocated int64
	// Links counts its names.
	Links uint64
	// Modified is when its content changed last, Changed when anything of it did; the kernel sets the latter only.
	Modified, Changed time.Time
}

// Stat tells what a name stands for: a symbolic link for itself. A mount point is fault.Precondition.
func (r *Root) Stat(name string) (Info, error) {
	if err := checkDir(name); err != nil {
		return Info{}, err
	}
	fd, err := r.openFD(name, unix.O_PATH|unix.O_NOFOLLOW, 0) // a link for itself, see openat2(2)
	if err != nil {
		return Info{}, failed("stat", r.full(name), err)
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing is open
	info, err := statFD(fd)
	if err != nil {
		return Info{}, failed("stat", r.full(name), err)
	}
	return info, nil
}

// Look tells what names in a directory stand for, as Stat does, at the cost of little more than one. One that isn't
// there, or is a mount point, has no links and no other fact.
func (r *Root) Look(dir string, names ...string) ([]Info, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	fd, err := r.openFD(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, failed("open directory", r.full(dir), err)
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing is open
	infos := make([]Info, len(names))
	for i, name := range names {
		if lastOf(name) != name {
			return nil, fault.New(fault.Invalid, "file name %q is refused: it must be one component", clip(name))
		}
		var s unix.Statx_t
		mask := unix.STATX_BASIC_STATS
		err := retry(func() error { return unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, mask, &s) })
		if errors.Is(err, unix.ENOENT) || err == nil && s.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			continue
		}
		if err != nil {
			return nil, failed("stat", r.full(dir+"/"+name), err)
		}
		infos[i] = Info{
			Dev: unix.Mkdev(s.Dev_major, s.Dev_minor), Inode: s.Ino, Mode: modeOf(uint32(s.Mode)), Bytes: int64(s.Size), Allocated: int64(s.Blocks) * 512,
			Links: uint64(s.Nlink), Modified: time.Unix(s.Mtime.Sec, int64(s.Mtime.Nsec)), Changed: time.Unix(s.Ctime.Sec, int64(s.Ctime.Nsec)),
		}
	}
	return infos, nil
}

// StatFile tells what an open file is.
func StatFile(f *os.File) (Info, error) {
	info, err := statFD(int(f.Fd()))
	return info, failed("stat", f.Name(), err)
}

func statFD(fd int) (Info, error) {
	var s unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &s) }); err != nil {
		return Info{}, err
	}
	return Info{
		Dev: uint64(s.Dev), Inode: s.Ino, Mode: modeOf(s.Mode), Bytes: s.Size, Allocated: s.Blocks * 512, Links: uint64(s.Nlink),
		Modified: time.Unix(s.Mtim.Unix()), Changed: time.Unix(s.Ctim.Unix()),
	}, nil
}

// modeOf translates st_mode (inode(7)).
func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}
