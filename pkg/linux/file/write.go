package file

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Mkdir makes a directory with that mode less the umask. One that is there is fault.Exists. It is durable after Sync of its parent.
func (r *Root) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	if err := CheckName(name); err != nil {
		return err
	}
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer release(dir)
	err = step.Do(ctx, "make directory "+name, func() error {
		return retry(func() error { return unix.Mkdirat(int(dir.Fd()), base, uint32(mode.Perm())) })
	})
	return failed("make directory", r.full(name), err)
}

// Create makes an empty regular file, with that mode less the umask, and opens it for reading and
// writing. Anything there already is fault.Exists. The name is durable after Sync of its directory.
func (r *Root) Create(ctx context.Context, name string, mode fs.FileMode) (f *os.File, err error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	err = step.Do(ctx, "create "+name, func() error {
		f, err = r.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
		return err
	})
	return f, failed("create", r.full(name), err)
}

// WriteFile replaces a file, or makes it, at once and durably: after a crash at any point the name stands for
// the old content or for the new one, never for a part. Two calls for one name must not run at once.
func (r *Root) WriteFile(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	if err := errors.Join(CheckName(name), CheckName(temporary(name))); err != nil {
		return err
	}
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer release(dir)
	if err := r.writeTemporary(ctx, dir, name, data, mode); err != nil {
		return err
	}
	err = step.Do(ctx, "replace "+name, func() error {
		return retry(func() error { return unix.Renameat(int(dir.Fd()), temporary(base), int(dir.Fd()), base) })
	})
	if err != nil {
		return failed("replace", r.full(name), err)
	}
	return sync(dir)
}

// writeTemporary writes data under name's temporary name. What a broken call left there is removed first.
func (r *Root) writeTemporary(ctx context.Context, dir *os.File, name string, data []byte, mode fs.FileMode) error {
	name = temporary(name)
	err := r.WriteNew(ctx, name, data, mode)
	if fault.Is(err, fault.Exists) {
		if err := r.unlink(ctx, dir, name); err != nil {
			return err
		}
		err = r.WriteNew(ctx, name, data, mode)
	}
	return err
}

// WriteNew makes a file with that content, which is durable when it returns; its name is after Sync of its
// directory. Anything there already is fault.Exists. An error leaves nothing, a crash may leave a part: it is
// for a place where nobody looks before all is there.
func (r *Root) WriteNew(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	f, err := r.Create(ctx, name, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return nil
	}
	// Half a file (the file system is full) is of no use to anybody.
	return errors.Join(failed("write", r.full(name), err), r.Unlink(context.WithoutCancel(ctx), name))
}

// CreateFile makes a file with that content at once and durably. Of any number of calls for one name,
// in any number of processes, one succeeds and the others are fault.Exists. A crash leaves nothing or
// the whole file. The file system must know O_TMPFILE (open(2): ext4, xfs, btrfs, tmpfs).
func (r *Root) CreateFile(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	if err := CheckName(name); err != nil {
		return err
	}
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer release(dir)
	fd, err := openat2(int(dir.Fd()), ".", unix.OpenHow{
		Flags: unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC, Mode: uint64(mode.Perm()), Resolve: beneath,
	})
	if err != nil {
		return failed("create", r.full(name), err)
	}
	f := os.NewFile(uintptr(fd), r.full(name))
	defer release(f)
	if _, err := f.Write(data); err != nil {
		return failed("write", r.full(name), err)
	}
	if err := sync(f); err != nil {
		return err
	}
	err = step.Do(ctx, "create "+name, func() error {
		return retry(func() error { return unix.Linkat(fd, "", int(dir.Fd()), base, unix.AT_EMPTY_PATH) })
	})
	if err != nil {
		return failed("create", r.full(name), err)
	}
	// Once more: a file without a name is in no journal of btrfs.
	return errors.Join(sync(f), sync(dir))
}

// Rename gives a file or directory another name, durably. What has that name already stays: fault.Exists.
func (r *Root) Rename(ctx context.Context, from, to string) error {
	if err := errors.Join(CheckName(from), CheckName(to)); err != nil {
		return err
	}
	source, oldBase, err := r.parent(from)
	if err != nil {
		return err
	}
	defer release(source)
	target, newBase, err := r.parent(to)
	if err != nil {
		return err
	}
	defer release(target)
	err = step.Do(ctx, "rename "+from+" to "+to, func() error {
		return retry(func() error {
			return unix.Renameat2(int(source.Fd()), oldBase, int(target.Fd()), newBase, unix.RENAME_NOREPLACE)
		})
	})
	if err != nil {
		return failed("rename", r.full(from)+" to "+r.full(to), err)
	}
	// Together: they wait for one commit of a journal then, not for two.
	var both errgroup.Group
	both.Go(func() error { return sync(target) })
	both.Go(func() error { return sync(source) })
	return both.Wait()
}

// Unlink removes a file that is no directory, durably: a symbolic link itself, never what it leads to.
// What is not there is success.
func (r *Root) Unlink(ctx context.Context, name string) error {
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
	if err := r.unlink(ctx, dir, name); err != nil {
		return err
	}
	return sync(dir)
}

// unlink removes a name from its directory, which is open.
func (r *Root) unlink(ctx context.Context, dir *os.File, name string) error {
	err := step.Do(ctx, "remove "+name, func() error { return force(dir, lastOf(name), 0) })
	return failed("remove", r.full(name), err)
}

// Sync makes the names in a directory durable ("." is the root).
func (r *Root) Sync(name string) error {
	if err := checkDir(name); err != nil {
		return err
	}
	dir, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return failed("sync", r.full(name), err)
	}
	defer release(dir)
	return sync(dir)
}

// sync is fsync(2); os.File makes it again where a signal interrupts it.
func sync(f *os.File) error { return failed("sync", f.Name(), f.Sync()) }
