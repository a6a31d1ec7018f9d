package btrfs

import (
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The direction bits of an ioctl's number differ between architectures: they are taken from two that x/sys
// knows for each.
const (
	iocRead  = unix.FS_IOC_GETFLAGS & 0xE0000000
	iocWrite = unix.FS_IOC_SETFLAGS & 0xE0000000

	magic = 0x94
	page  = 4096

	iocCreate      = iocWrite | page<<16 | magic<<8 | 14           // BTRFS_IOC_SUBVOL_CREATE
	iocDestroy     = iocWrite | page<<16 | magic<<8 | 15           // BTRFS_IOC_SNAP_DESTROY
	iocTreeSearch  = iocRead | iocWrite | page<<16 | magic<<8 | 17 // BTRFS_IOC_TREE_SEARCH
	iocInodeLookup = iocRead | iocWrite | page<<16 | magic<<8 | 18 // BTRFS_IOC_INO_LOOKUP
	iocWaitSync    = iocWrite | 8<<16 | magic<<8 | 22              // BTRFS_IOC_WAIT_SYNC
	iocSnapshot    = iocWrite | page<<16 | magic<<8 | 23           // BTRFS_IOC_SNAP_CREATE_V2
	iocStartSync   = iocRead | 8<<16 | magic<<8 | 24               // BTRFS_IOC_START_SYNC
	iocInfo        = iocRead | sizeOfInfo<<16 | magic<<8 | 31      // BTRFS_IOC_FS_INFO
	iocLimit       = iocRead | sizeOfLimit<<16 | magic<<8 | 43     // BTRFS_IOC_QGROUP_LIMIT
	iocDestroy2    = iocWrite | page<<16 | magic<<8 | 63           // BTRFS_IOC_SNAP_DESTROY_V2

	flagReadOnly = 1 << 1 // BTRFS_SUBVOL_RDONLY
	flagByID     = 1 << 4 // BTRFS_SUBVOL_SPEC_BY_ID
)

// volumeArgs is struct btrfs_ioctl_vol_args.
type volumeArgs struct {
	_    int64
	name [page - 8]byte
}

// volumeArgs2 is struct btrfs_ioctl_vol_args_v2. With flagByID the number of a subvolume stands in the place of the
// name.
type volumeArgs2 struct {
	fd    int64
	_     uint64
	flags uint64
	_     [4]uint64
	name  [page - 7*8]byte
}

// inodeLookup is struct btrfs_ioctl_ino_lookup_args.
type inodeLookup struct {
	tree, object uint64
	name         [page - 16]byte
}

const (
	sizeOfLimit = 48
	sizeOfInfo  = 1024
)

// filesystemInfo is struct btrfs_ioctl_fs_info_args.
type filesystemInfo struct {
	_, devices uint64
	uuid       [16]byte
	_          [sizeOfInfo - 32]byte
}

// qgroupLimit is struct btrfs_ioctl_qgroup_limit_args.
type qgroupLimit struct {
	qgroup, flags, maxReferenced, maxExclusive, _, _ uint64
}

// treeSearch is struct btrfs_ioctl_search_args.
type treeSearch struct {
	tree, minObject, maxObject, minOffset, maxOffset, minTransaction, maxTransaction uint64
	minType, maxType, items, _                                                       uint32
	_                                                                                [4]uint64
	found                                                                            [page - searchKey]byte
}

const (
	searchKey    = 104
	searchHeader = 32 // struct btrfs_ioctl_search_header
)

// setName puts a name that is a single component where the kernel reads it.
func setName(to []byte, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX || strings.ContainsAny(name, "/\x00") {
		return fault.New(fault.Invalid, "%q is no name for a subvolume", name[:min(len(name), unix.NAME_MAX)])
	}
	copy(to, name)
	return nil
}

// ioctl calls the kernel, again as long as a signal interrupts it.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		switch {
		case errno == 0:
			return nil
		case !errors.Is(errno, unix.EINTR):
			return errno
		}
	}
}
