// Package btrfs makes, copies, limits and removes the subvolumes of a mounted btrfs, by the ioctls of linux/btrfs.h.
//
// All work on descriptors of open directories; a subvolume stands under one name in one of them. A subvolume is
// limited by its qgroup, which the kernel makes with it where quotas are enabled (btrfs-quota(8)); enabling them is a
// change of the whole file system and not done here. A qgroup counts what is in its subvolume, not what is in
// subvolumes nested in it.
package btrfs

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// rootInode is the inode number of every subvolume's root (BTRFS_FIRST_FREE_OBJECTID).
const rootInode = 256

// IsSubvolume tells whether an open directory is the root of a subvolume.
func IsSubvolume(dir *os.File) (bool, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(dir.Fd()), &fs), unix.Fstat(int(dir.Fd()), &st)); err != nil {
		return false, failed("look at", dir, "", err)
	}
	return fs.Type == unix.BTRFS_SUPER_MAGIC && st.Ino == rootInode, nil
}

// ID returns the number of the subvolume that an open file is in.
func ID(f *os.File) (uint64, error) {
	a := inodeLookup{object: rootInode}
	err := ioctl(f, iocInodeLookup, unsafe.Pointer(&a))
	return a.tree, failed("look up the subvolume of", f, "", err)
}

// Create makes an empty subvolume of that name, a single component, in an open directory. A name that is taken is
// fault.Exists. Its root belongs to the caller; its mode is that of mkdir(2) with all bits.
func Create(ctx context.Context, parent *os.File, name string) error {
	var a volumeArgs
	if err := setName(a.name[:], name); err != nil {
		return err
	}
	err := step.Do(ctx, "make subvolume "+name, func() error { return ioctl(parent, iocCreate, unsafe.Pointer(&a)) })
	return failed("make subvolume", parent, name, err)
}

// Snapshot makes a subvolume of that name in an open directory, with the content that source, the open root of a
// subvolume, has at that instant. It is durable when the call returns, and has the source's limit, as
// one of its own. Subvolumes nested in the source are empty directories in it. A name that is taken is fault.Exists.
func Snapshot(ctx context.Context, source, parent *os.File, name string, readOnly bool) error {
	a := volumeArgs2{fd: int64(source.Fd())}
	if readOnly {
		a.flags = flagReadOnly
	}
	if err := setName(a.name[:], name); err != nil {
		return err
	}
	err := step.Do(ctx, "snapshot subvolume as "+name, func() error { return ioctl(parent, iocSnapshot, unsafe.Pointer(&a)) })
	return failed("snapshot subvolume as", parent, name, err)
}

// Delete removes the subvolume of that name from an open directory, with all that is in it, and all subvolumes
// nested in it, read-only ones too. Its space is given back by the kernel some time later. What is not there is
// success; what is no subvolume is fault.Precondition and left alone. It may be called again at any point.
//
// What was removed is committed when the call returns: see Commit.
func Delete(ctx context.Context, parent *os.File, name string) error {
	var a volumeArgs
	if err := setName(a.name[:], name); err != nil {
		return err
	}
	root, err := openDir(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed("remove subvolume", parent, name, err)
	}
	defer func() { _ = root.Close() }()
	is, err := IsSubvolume(root)
	if err != nil {
		return err
	}
	if !is {
		return fault.New(fault.Precondition, "remove subvolume %s/%s: it is no subvolume", parent.Name(), name)
	}
	id, err := ID(root)
	if err != nil {
		return err
	}
	if err := deleteNested(ctx, parent, id); err != nil {
		return err
	}
	err = step.Do(ctx, "remove subvolume "+name, func() error { return ioctl(parent, iocDestroy, unsafe.Pointer(&a)) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("remove subvolume", parent, name, err)
	}
	return Commit(parent)
}

// Commit makes durable what changed in the trees of a btrfs, without writing back what files hold.
//
// A folder in which a subvolume was removed must not be removed itself before that: where the removal of both is
// in one transaction, and a file or folder beside is synced, the log that the sync writes says that the folder
// is gone, but not the subvolume. Replayed after a power cut, it removes what the folder held, fails
// at the entry of a subvolume, and the file system can't be mounted (seen with Linux 6.1 and 6.18: "log replay failed
// in unlink_inode_for_log_replay").
func Commit(at *os.File) error {
	var transaction uint64
	err := ioctl(at, iocStartSync, unsafe.Pointer(&transaction))
	if err == nil {
		err = ioctl(at, iocWaitSync, unsafe.Pointer(&transaction))
	}
	return failed("commit", at, "", err)
}

// deleteNested removes the subvolumes that lie in another one, deepest first.
func deleteNested(ctx context.Context, at *os.File, id uint64) error {
	for _, child := range descendants(at, id) {
		if child.err != nil {
			return failed("look for subvolumes nested in", at, "", child.err)
		}
		if err := ctx.Err(); err != nil {
			return failed("remove nested subvolumes of", at, "", err)
		}
		a := volumeArgs2{flags: flagByID}
		binary.NativeEndian.PutUint64(a.name[:], child.id)
		err := step.Do(ctx, "remove nested subvolume", func() error { return ioctl(at, iocDestroy2, unsafe.Pointer(&a)) })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return failed("remove a nested subvolume of", at, "", err)
		}
	}
	return nil
}

// descendant is a nested subvolume, or why it couldn't be found.
type descendant struct {
	id  uint64
	err error
}

// descendants lists the subvolumes below one, each behind those that lie in it.
func descendants(at *os.File, id uint64) []descendant {
	children, err := children(at, id)
	if err != nil {
		return []descendant{{err: err}}
	}
	var out []descendant
	for _, child := range children {
		out = append(out, descendants(at, child.id)...)
		out = append(out, descendant{id: child.id})
	}
	return out
}

// openDir opens a directory entry itself.
func openDir(parent *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), parent.Name()+"/"+name), nil
}

// failed names what was tried on what, and gives the kernel's refusal a kind.
func failed(op string, f *os.File, name string, err error) error {
	if err == nil {
		return nil
	}
	object := f.Name()
	if name != "" {
		object += "/" + name
	}
	kind := fault.KindOf(err)
	for k, errnos := range map[fault.Kind][]error{
		fault.NotFound:     {unix.ENOENT},
		fault.Exists:       {unix.EEXIST},
		fault.Exhausted:    {unix.ENOSPC, unix.EDQUOT},
		fault.Precondition: {unix.ENOTTY, unix.EOPNOTSUPP, unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ENOTEMPTY, unix.ENOTCONN, unix.EBUSY},
		fault.Unavailable:  {unix.EROFS, unix.EIO, unix.EUCLEAN, unix.ESTALE, unix.ESHUTDOWN},
	} {
		for _, e := range errnos {
			if errors.Is(err, e) {
				kind = k
			}
		}
	}
	return &fault.Error{Kind: kind, Op: op, Object: object, Err: err}
}
