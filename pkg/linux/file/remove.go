package file

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const (
	// maxDepth is for how many levels of a tree that is removed a descriptor is kept open.
	maxDepth = 32
	// batch is how many names of a directory are held at a time.
	batch = 4096
)

// RemoveAll removes a file, or a directory with all that is in it. What is not there is success.
//
// It walks by descriptor, of which it holds a few however deep the tree is, removes symbolic links and follows none, and
// stops at a mount point (fault.Precondition). What is immutable or may only be appended to (chattr(1)) is made
// removable first. Stopped at any point, by an error, the context's end or a crash, it goes on when it
// is called again. It syncs nothing: after a power cut some of it may be there again.
func (r *Root) RemoveAll(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	dir, _, err := r.parent(name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release(dir)
	return r.remove(ctx, dir, name, 0)
}

// remove removes the entry whose last component stands in dir.
func (r *Root) remove(ctx context.Context, dir *os.File, name string, depth int) error {
	if err := ctx.Err(); err != nil {
		return failed("remove", r.full(name), err)
	}
	var s unix.Stat_t
	err := retry(func() error {
		return unix.Fstatat(int(dir.Fd()), lastOf(name), &s, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed("remove", r.full(name), err)
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR {
		return r.unlink(ctx, dir, name)
	}
	if err := r.empty(ctx, dir, name, depth); err != nil {
		return err
	}
	err = step.Do(ctx, "remove directory "+name, func() error { return force(dir, lastOf(name), unix.AT_REMOVEDIR) })
	return failed("remove", r.full(name), err)
}

// empty removes all that is in a directory.
func (r *Root) empty(ctx context.Context, parent *os.File, name string, depth int) error {
	fd, err := openat2(int(parent.Fd()), lastOf(name), unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed("remove", r.full(name), err)
	}
	dir := os.NewFile(uintptr(fd), r.full(name))
	defer func() { release(dir) }()
	if depth == maxDepth {
		dir, err = r.emptyDeep(ctx, dir)
		return err
	}
	for {
		names, err := dir.Readdirnames(batch)
		if err != nil && !errors.Is(err, io.EOF) {
			return failed("read directory", r.full(name), err)
		}
		if len(names) == 0 {
			return nil
		}
		for _, n := range names {
			if err := r.remove(ctx, dir, name+"/"+n, depth+1); err != nil {
				return err
			}
		}
		// From the start again: what a directory yields after entries of it went is not defined.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return failed("read directory", r.full(name), err)
		}
	}
}

// unlinkat removes a name from a directory; what is not there is success. A mount point is EBUSY.
func unlinkat(dir *os.File, base string, flags int) error {
	err := retry(func() error { return unix.Unlinkat(int(dir.Fd()), base, flags) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// lastOf returns a name's last component.
func lastOf(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
