package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Root is an open directory beneath which files are used. It keeps the file system busy until it is
// closed. Its methods may be called concurrently, but not with or after Close.
type Root struct {
	dir  *os.File
	path string
}

// OpenRoot opens a directory by its absolute, clean path, in the mount namespace of the calling thread.
// Mount points on the way are passed, symbolic links are not: one anywhere in the path is
// fault.Precondition and named. No such directory is fault.NotFound, anything else in its place and one
// that may not be read fault.Precondition, a file system that fails fault.Unavailable.
func OpenRoot(path string) (*Root, error) {
	if err := checkRootPath(path); err != nil {
		return nil, err
	}
	fd, err := openat2(unix.AT_FDCWD, path, unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fault.New(fault.Precondition, "open directory %s: %s is a symbolic link; give the path that it leads to",
			path, firstSymlink(path))
	case errors.Is(err, unix.ENOTDIR):
		return nil, fault.New(fault.Precondition, "open directory %s: %w", path, err)
	case err != nil:
		return nil, failed("open directory", path, err)
	}
	return &Root{dir: os.NewFile(uintptr(fd), path), path: path}, nil
}

// MakeRoot is OpenRoot, but makes what is missing of the path, with that mode, durably.
func MakeRoot(ctx context.Context, path string, mode fs.FileMode) (*Root, error) {
	r, err := OpenRoot(path)
	if !fault.Is(err, fault.NotFound) {
		return r, err
	}
	parent, err := MakeRoot(ctx, filepath.Dir(path), mode)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := parent.Mkdir(ctx, filepath.Base(path), mode); err != nil && !fault.Is(err, fault.Exists) {
		return nil, err
	}
	if err := parent.Sync("."); err != nil {
		return nil, err
	}
	return OpenRoot(path)
}

// firstSymlink returns the shortest part of a path that is a symbolic link, for an error.
func firstSymlink(path string) string {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if info, err := os.Lstat(path[:i]); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return path[:i]
		}
	}
	return "a part of it"
}

// Close lets go of the directory.
func (r *Root) Close() { release(r.dir) }

// Path returns the path that the root was opened by.
func (r *Root) Path() string { return r.path }

// full is what an error calls a name.
func (r *Root) full(name string) string { return filepath.Join(r.path, name) }

// beneath is how every name is resolved: see openat2(2). NO_SYMLINKS implies NO_MAGICLINKS.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// open resolves a name beneath the root. The caller has checked the name.
func (r *Root) open(name string, flags uint64, mode fs.FileMode) (*os.File, error) {
	fd, err := r.openFD(name, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), r.full(name)), nil
}

// openFD is open for a descriptor that doesn't need a file around it.
func (r *Root) openFD(name string, flags uint64, mode fs.FileMode) (int, error) {
	return openat2(int(r.dir.Fd()), name, unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Mode: uint64(mode.Perm()), Resolve: beneath,
	})
}

// parent opens the directory that a name stands in, for reading, so that it can be synced too, and
// returns the name's last component.
func (r *Root) parent(name string) (dir *os.File, base string, err error) {
	folder, base := ".", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		folder, base = name[:i], name[i+1:]
	}
	dir, err = r.open(folder, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, "", failed("open directory", r.full(folder), err)
	}
	return dir, base, nil
}

// openat2 is the system call, made again when a signal came between (EINTR) or a rename elsewhere kept
// the kernel from being sure of the path (EAGAIN, see openat2(2)).
func openat2(dirfd int, path string, how unix.OpenHow) (int, error) {
	const tries = 100 // EAGAIN is rare; somebody who renames without end must not hold us for ever
	for n := 0; ; n++ {
		fd, err := unix.Openat2(dirfd, path, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && n < tries:
		default:
			return -1, err
		}
	}
}

// retry makes a system call again as long as a signal interrupts it.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release closes what can lose nothing at its close: a directory, a file that was only read or that is
// synced.
func release(f *os.File) { _ = f.Close() }
