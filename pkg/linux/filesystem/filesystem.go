// Package filesystem makes, recognises, checks and grows ext4, xfs and btrfs on a block device or an
// image file.
//
// Nothing that may hold data is ever formatted: Make refuses what bears a signature or doesn't read as
// zeroes, no tool is ever told to force, and a region that can't be read is an error, never "empty".
// What may block on a device goes through the Runner, so that a dead one holds its own caller only.
package filesystem

import (
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Type is a file system that volumes may have.
type Type string

// The file systems.
const (
	Ext4  Type = "ext4"
	XFS   Type = "xfs"
	Btrfs Type = "btrfs"
)

// Tree stands for a volume that is a directory: it has no file system of its own, and is mounted by bind.
const Tree Type = ""

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// types lists what ParseType takes.
func types() []string { return []string{string(Ext4), string(XFS), string(Btrfs)} }

// ParseType returns the type of a name. Any other name, the empty one too, is fault.Invalid and lists
// those that are allowed.
func ParseType(s string) (Type, error) {
	for _, t := range types() {
		if s == t {
			return Type(t), nil
		}
	}
	return "", fault.New(fault.Invalid, "%q is no file system for volumes; allowed are %s", shorten(s), strings.Join(types(), ", "))
}

// MinSize returns the least size of a volume with that file system, in bytes; 0 for a type that isn't one.
//
//   - ext4, 16 MiB: mke2fs leaves the journal out under 2048 blocks (8 MiB), and without one a crash may
//     damage the file system (ext2fs_default_journal_size, lib/ext2fs/mkjournal.c). At 16 MiB the journal
//     takes 4 MiB and 11 MiB are left for files.
//   - xfs, 300 MiB: mkfs.xfs refuses less (mkfs.xfs(8), since xfsprogs 5.19).
//   - btrfs, 256 MiB: mkfs.btrfs takes 109 MiB, but the kernel resizes to nothing smaller than 256 MiB
//     (btrfs_ioctl_resize, fs/btrfs/ioctl.c), so that a smaller volume might be impossible to grow.
func MinSize(t Type) int64 {
	switch t {
	case Ext4:
		return 16 * mib
	case XFS:
		return 300 * mib
	case Btrfs:
		return 256 * mib
	}
	return 0
}

// shorten makes foreign text short enough for an error.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
