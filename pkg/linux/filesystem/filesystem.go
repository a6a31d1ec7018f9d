// Package filesystem makes, recognises, checks and grows ext4, xfs and btrfs on a block device or an
// image file.
//
// Nothing that may hold data is ever formatted: Make refuses what bears a signature or doesn't read as
// zeroes, no tool is ever told to force, and a region that can't be read is an error, never "empty".
package filesystem

import (
	"context"
	"io"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// Type is a file system that volumes may have.
type Type string

// The file systems.
const (
	Ext4  Type = "ext4"
	XFS   Type = "xfs"
	Btrfs Type = "btrfs"
)

// ParseType returns the type of a name. Any other name, the empty one too, is fault.Invalid and lists
// those that are allowed.
func ParseType(s string) (Type, error) { return "", nil }

// MinSize returns the least size of a volume with that file system, in bytes.
func MinSize(t Type) int64 { return 0 }

// Format says how a file system is made.
type Format struct {
	Type Type
	// UUID is the file system's, in its usual form of 36 characters. It is required.
	UUID string
	// Label is the file system's; empty is none. ext4 takes 16 bytes, xfs 12, btrfs 255.
	Label string
	// Discard says that the whole device is discarded first. Never set it for storage whose space was
	// promised (a thick image): it would be punched full of holes.
	Discard bool
	// SectorSize is the logical sector size in bytes, 512 or 4096, of the device that the file system
	// will be mounted from, which an image file can't tell.
	SectorSize int
	// Zeroed says that the storage is known to read as zeroes wherever nothing was written since (a
	// fresh sparse or allocated file, a device that was zeroed from end to end), so that nothing needs
	// to be zeroed and an image stays as small as it can. Set without reason it makes a damaged file
	// system.
	Zeroed bool
	// Options are the user's, as ParseMkfsOptions returned them.
	Options []string
}

// Make makes a file system on a blank image file or block device.
//
// It is fault.Precondition where any signature is found or where the storage doesn't read as zeroes in
// all the regions that Blank reads, and nothing is changed then. Features don't depend on the machine's
// configuration, and Linux 5.10 and later mount them.
func Make(ctx context.Context, run *command.Runner, path string, f Format) error { return nil }

// Signature is what storage says about its content.
type Signature struct {
	// Type is "ext4", "xfs", "btrfs" or the name that blkid has for anything else; "" is none.
	Type string
	// UUID and Label are the file system's, where it has them.
	UUID  string
	Label string
	// Bytes is the size that the file system has by its own superblock; 0 where that isn't known.
	Bytes int64
}

// ReadSuperblock looks for ext4 (or its elders), xfs and btrfs at their places. Type is "" where none
// is there. An error of reading is an error, and so are two file systems at once (fault.Precondition).
func ReadSuperblock(r io.ReaderAt) (Signature, error) { return Signature{}, nil }

// Probe tells what is on a block device or in an image file: ReadSuperblock first, and where that finds
// nothing blkid, which knows foreign signatures and partition tables. Type is "" only where both read
// and found nothing; whatever else goes wrong is an error. More than one signature is fault.Precondition.
func Probe(ctx context.Context, run *command.Runner, path string) (Signature, error) {
	return Signature{}, nil
}

// Blank tells whether a block device or image file reads as zeroes: its first and last 2 MiB and
// samples in between, or all of it where it is a file that the file system under it knows to be a hole.
// An error of reading is an error.
func Blank(ctx context.Context, path string) (bool, error) { return false, nil }

// Check brings a file system that isn't mounted into a state in which it may be, and never repairs
// beyond what is safe to do unasked: ext4 gets `e2fsck -p`, unless its superblock says that it was
// unmounted cleanly without an error; xfs and btrfs replay their logs when they are mounted, so nothing
// is run for them. Damage is fault.Precondition and names the device and the command that repairs it.
func Check(ctx context.Context, run *command.Runner, device string, t Type) error { return nil }

// Grow grows a mounted file system to the size of its device, given in bytes, by an ioctl on the mount
// point, and returns its size before and after as statfs tells it. Called again it changes nothing.
func Grow(ctx context.Context, mountPoint string, t Type, deviceBytes int64) (from, to int64, err error) {
	return 0, 0, nil
}

// NeedsGrow tells whether a file system is smaller than its device by more than its rounding.
func NeedsGrow(sig Signature, deviceBytes int64) bool { return false }

// Usage is the room of a mounted file system. A file system that doesn't count inodes (btrfs) has 0 of
// them.
type Usage struct {
	TotalBytes, UsedBytes, AvailableBytes int64
	TotalInodes, UsedInodes, FreeInodes   int64
}

// Stat returns the usage of the file system that a path lies on.
func Stat(path string) (Usage, error) { return Usage{}, nil }

// ParseMkfsOptions parses a StorageClass's mkfsOptions, separated by spaces, against the allow-list of
// the file system. The result goes into Format.Options. Errors are fault.Invalid and list what is allowed.
func ParseMkfsOptions(t Type, s string) ([]string, error) { return nil, nil }

// MountOptions checks mount flags against the allow-list of the file system and returns them one by
// one. Errors are fault.Invalid, name the option and list what is allowed.
func MountOptions(t Type, flags []string) ([]string, error) { return nil, nil }
