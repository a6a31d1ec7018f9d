package mount

import (
	"context"
	"io/fs"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// CheckPath tells whether path can be worked on: absolute, clean (filepath.Clean changes nothing),
// without NUL, at most 4095 bytes (PATH_MAX less its NUL) with components of at most 255, and not the
// root directory. The error is fault.Invalid.
func CheckPath(path string) error { return fault.New(fault.Internal, "not made yet") }

// Point is what one path is at one moment.
type Point struct {
	// Exists is false where nothing has that name; then all else is zero.
	Exists bool
	// IsDir is true for a directory (not for a symbolic link to one).
	IsDir bool
	// IsMount is true where the path is the root of a mount.
	IsMount bool
	// Corrupted is true where the path is there, but its file system answers with an error that
	// only an unmount (and a repair) can cure: EIO, ESTALE, ENOTCONN and their like. Then Mode, Dev,
	// Ino, Rdev and ReadOnly are zero.
	Corrupted bool
	// Mode holds type and permissions as Go writes them.
	Mode fs.FileMode
	// Dev is st_dev, Ino is st_ino.
	Dev, Ino uint64
	// Rdev is the device that a device node stands for (as unix.Mkdev makes it), else 0.
	Rdev uint64
	// MountID is the mount that the path lies in, or is the root of (first field of mountinfo).
	MountID uint64
	// ReadOnly is true where the mount or its file system is read-only.
	ReadOnly bool
}

// Inspect says what path is, by statx(2) on a descriptor: symbolic links in its last component are
// not followed, automounts not triggered. A path that is not there is no error. It may block for as
// long as the file system does (an NFS server that is gone).
func (m *Mounter) Inspect(ctx context.Context, path string) (Point, error) {
	return Point{}, fault.New(fault.Internal, "not made yet")
}

// Mount mounts the file system of type fsType that lies on source (a device) onto target, which must
// be an existing directory that nothing is mounted on.
//
// options are mount(8)'s words: what the kernel's mount knows (ro, nosuid, nodev, noexec, noatime,
// ...) is applied to the mount, "defaults", "nofail" and "_netdev" mean nothing here, the rest is
// handed to the file system one by one. Words that ask for another kind of mount (bind, remount,
// move, shared, ...) are fault.Invalid, and so is an option that the file system doesn't know.
//
// Errors name source, target, type and options and carry the kernel's words. fault.Busy: source or
// target is in use; fault.Precondition: source bears no such file system, a damaged one, or is
// read-only, or the kernel lacks fsType; fault.NotFound: source or target is not there;
// fault.Unavailable: the device can't be read.
func (m *Mounter) Mount(ctx context.Context, source, target, fsType string, options []string) error {
	return fault.New(fault.Internal, "not made yet")
}

// BindOptions says how Bind binds.
type BindOptions struct {
	// ReadOnly makes the new mount read-only before anybody can see it. It binds files and
	// directories only: a device node on a read-only mount can still be written through.
	ReadOnly bool
	// Attributes are further words of mount(8) for the new mount alone: nosuid, nodev, noexec,
	// noatime, nodiratime, relatime, strictatime, nosymfollow. Others are fault.Invalid. A device node
	// can't be opened where nodev holds.
	Attributes []string
	// Verify, if set, judges the source by the descriptor that is bound; its error ends the call.
	Verify func(Point) error
}

// Bind makes source visible at target: a directory on a directory, anything else on a regular file.
// Mounts below source are not bound with it. Neither may be a symbolic link, and nothing may be mounted on
// target yet (fault.Busy). Propagation is that of mount --bind: where target lies under a shared
// mount, the new mount is shared and reaches all its peers.
func (m *Mounter) Bind(ctx context.Context, source, target string, o BindOptions) error {
	return fault.New(fault.Internal, "not made yet")
}

// Unmount takes off the topmost mount of target and no other. A target that is not there or is no
// mount point is success. A mount in use is fault.Busy.
func (m *Mounter) Unmount(ctx context.Context, target string) error {
	return fault.New(fault.Internal, "not made yet")
}

// Entry is one line of the mount table (proc(5), /proc/pid/mountinfo), its octal escapes decoded.
type Entry struct {
	ID, ParentID int
	// Major and Minor are the file system's st_dev; btrfs has an anonymous one (major 0).
	Major, Minor int
	// Root is the directory of the file system that is mounted, MountPoint where it is seen.
	Root, MountPoint string
	// Source is what the file system says it was mounted from: a device's path, or any word.
	Source, FSType string
	// Options are the mount's own, SuperOptions the file system's.
	Options, SuperOptions []string
}

// List returns the mount table, in its order: a mount stands behind those that it lies on.
func (m *Mounter) List(ctx context.Context) ([]Entry, error) {
	return nil, fault.New(fault.Internal, "not made yet")
}

// OfDevice returns the mounts of the file system that lies on the block device of that number. source
// is the device's path: file systems with an anonymous st_dev (btrfs) are recognised by it, or by a
// Source that leads to the same device. btrfs names only one device of several.
func (m *Mounter) OfDevice(ctx context.Context, major, minor int, source string) ([]Entry, error) {
	return nil, fault.New(fault.Internal, "not made yet")
}

// MakeDirTarget makes the directory path with exactly that mode; its parent must be there. A directory that
// is there already is left as it is (created is false); anything else is fault.Precondition.
func (m *Mounter) MakeDirTarget(ctx context.Context, path string, mode fs.FileMode) (created bool, err error) {
	return false, fault.New(fault.Internal, "not made yet")
}

// MakeFileTarget makes the empty regular file path with exactly that mode, onto which a device node can be
// bound; its parent must be there. A regular file or a non-directory mount that is there already is
// left as it is (created is false); anything else is fault.Precondition.
func (m *Mounter) MakeFileTarget(ctx context.Context, path string, mode fs.FileMode) (created bool, err error) {
	return false, fault.New(fault.Internal, "not made yet")
}

// RemoveTarget removes path where it is an empty directory or an empty regular file; what is not there
// is success. A mount point, a symbolic link, a directory with anything in it, a file with content
// and all other kinds are left untouched: fault.Precondition.
func (m *Mounter) RemoveTarget(ctx context.Context, path string) error {
	return fault.New(fault.Internal, "not made yet")
}

// SetMode sets the permissions of the directory path, on which nothing may be mounted
// (fault.Precondition: it would be the volume's own mode). Mode 0 keeps everybody but root from
// writing into a staging directory while its volume is not there.
func (m *Mounter) SetMode(ctx context.Context, path string, mode fs.FileMode) error {
	return fault.New(fault.Internal, "not made yet")
}
