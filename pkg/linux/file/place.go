package file

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ID is what the kernel knows a directory by, whatever paths lead to it.
type ID struct{ Dev, Inode uint64 }

// String returns device and inode, as "254:0/2".
func (i ID) String() string {
	return fmt.Sprintf("%d:%d/%d", unix.Major(i.Dev), unix.Minor(i.Dev), i.Inode)
}

// ID returns the root's.
func (r *Root) ID() (ID, error) {
	p, err := placeOf(r.dir)
	return p.ID, err
}

// Same tells whether both are the same directory, on whatever path.
func (r *Root) Same(other *Root) (bool, error) {
	a, err := r.ID()
	if err != nil {
		return false, err
	}
	b, err := other.ID()
	return a == b, err
}

// Filesystem is the file system that a root lies on.
type Filesystem struct {
	// Type is its name ("ext4", also for its elders; "xfs"), or its magic number in hexadecimal.
	Type string
	// ReadOnly tells that it, or its mount here, takes no writes.
	ReadOnly bool
	// Total, Free and Available are bytes: in all, not in use, and what users other than root can get.
	Total, Free, Available int64
	// Inodes and FreeInodes count files; 0 where the file system has no bound (btrfs).
	Inodes, FreeInodes uint64
}

// Filesystem asks statfs(2).
func (r *Root) Filesystem() (Filesystem, error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(r.dir.Fd()), &s) }); err != nil {
		return Filesystem{}, failed("stat the file system of", r.path, err)
	}
	block := s.Frsize
	if block == 0 {
		block = s.Bsize
	}
	return Filesystem{
		Type: typeName(uint32(s.Type)), ReadOnly: s.Flags&unix.ST_RDONLY != 0,
		Total: int64(s.Blocks) * block, Free: int64(s.Bfree) * block, Available: int64(s.Bavail) * block,
		Inodes: s.Files, FreeInodes: s.Ffree,
	}, nil
}

// SyncFilesystem makes all of the file system durable (syncfs(2)). It may take long. What was removed
// before is free afterwards: btrfs gives space back with its next transaction only.
func (r *Root) SyncFilesystem() error {
	err := retry(func() error { return unix.Syncfs(int(r.dir.Fd())) })
	return failed("sync the file system of", r.path, err)
}

// typeName names the file systems that an administrator may have put a directory on (statfs(2)).
func typeName(magic uint32) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "cifs"
	case unix.CEPH_SUPER_MAGIC:
		return "ceph"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat"
	case unix.PROC_SUPER_MAGIC:
		return "proc"
	case unix.SYSFS_MAGIC:
		return "sysfs"
	}
	return fmt.Sprintf("%#x", magic)
}
