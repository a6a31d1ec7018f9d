package mount

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
	mountutils "k8s.io/mount-utils"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

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

// Inspect says what path is, by statx(2) on a descriptor: a symbolic link in its last component is
// not followed, an automount not triggered. A path that is not there is no error. It may block for as
// long as the file system does (an NFS server that is gone).
func (m *Mounter) Inspect(ctx context.Context, path string) (Point, error) {
	if err := ctx.Err(); err != nil {
		return Point{}, fault.Wrap(err, "inspect", path)
	}
	if err := CheckPath(path); err != nil {
		return Point{}, err
	}
	p, err := inspectPath(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return Point{}, nil
	case mountutils.IsCorruptedMnt(err):
		return m.corrupted(ctx, path)
	case err != nil:
		return Point{}, fault.Wrap(err, "inspect", path)
	}
	return p, nil
}

// inspectPath is Inspect with the kernel's own errors.
func inspectPath(path string) (Point, error) {
	fd, err := openPath(path)
	if err != nil {
		return Point{}, err
	}
	defer closeFD(fd)
	return inspectFD(fd)
}

// corrupted says what can be said of a path whose file system doesn't answer. Only here is the mount
// table read: it is the one source that doesn't ask the file system.
func (m *Mounter) corrupted(ctx context.Context, path string) (Point, error) {
	entries, err := m.List(ctx)
	if err != nil {
		return Point{}, err
	}
	// The table holds no symbolic links; those above the path can still be followed.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	p := Point{Exists: true, Corrupted: true}
	for _, e := range entries {
		if e.MountPoint == path {
			p.IsMount, p.MountID = true, uint64(e.ID)
		}
	}
	return p, nil
}

// inspectFD says what a descriptor stands for. Its errors are the kernel's own.
func inspectFD(fd int) (Point, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return Point{}, err
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Mask&unix.STATX_MNT_ID == 0 {
		return Point{}, fault.New(fault.Precondition, "this kernel's statx(2) doesn't tell mount points: Linux 5.12 or later is needed")
	}
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fd, &sfs); err != nil {
		return Point{}, err
	}
	p := Point{
		Exists:   true,
		IsMount:  st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		Mode:     fileMode(uint32(st.Mode)),
		Dev:      unix.Mkdev(st.Dev_major, st.Dev_minor),
		Ino:      st.Ino,
		MountID:  st.Mnt_id,
		ReadOnly: sfs.Flags&unix.ST_RDONLY != 0,
	}
	p.IsDir = p.Mode.IsDir()
	if p.Mode&fs.ModeDevice != 0 {
		p.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	return p, nil
}

// fileMode translates st_mode (inode(7)).
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, goBit := range map[uint32]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if mode&bit != 0 {
			m |= goBit
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return m
	case unix.S_IFDIR:
		return m | fs.ModeDir
	case unix.S_IFLNK:
		return m | fs.ModeSymlink
	case unix.S_IFBLK:
		return m | fs.ModeDevice
	case unix.S_IFCHR:
		return m | fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFIFO:
		return m | fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return m | fs.ModeSocket
	}
	return m | fs.ModeIrregular
}

// kind names what a point is, for errors.
func (p Point) kind() string {
	switch {
	case !p.Exists:
		return "not there"
	case p.Corrupted:
		return "a mount whose file system answers with errors"
	case p.IsDir:
		return "a directory"
	case p.Mode.IsRegular():
		return "a regular file"
	case p.Mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case p.Mode&fs.ModeCharDevice != 0:
		return "a character device"
	case p.Mode&fs.ModeDevice != 0:
		return "a block device"
	}
	return "neither directory, file nor device"
}
