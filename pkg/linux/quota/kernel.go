package quota

import (
	"errors"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of quotactl(2) that were made for xfs: XQM_CMD of linux/dqblk_xfs.h.
const (
	xGetQuota     = 'X'<<8 + 3
	xSetLimit     = 'X'<<8 + 4
	xGetStatV     = 'X'<<8 + 8
	xGetNextQuota = 'X'<<8 + 9
)

const (
	projectType  = 2 // PRJQUOTA of linux/quota.h
	quotaVersion = 1 // FS_DQUOT_VERSION
	statVersion  = 1 // FS_QSTATV_VERSION1
	projectQuota = 2 // FS_PROJ_QUOTA

	softBytes = 1 << 2 // FS_DQ_BSOFT
	hardBytes = 1 << 3 // FS_DQ_BHARD

	projectAccounted = 1 << 4 // FS_QUOTA_PDQ_ACCT
	projectEnforced  = 1 << 5 // FS_QUOTA_PDQ_ENFD

	projectInherit = 0x00000200 // FS_XFLAG_PROJINHERIT of linux/fs.h

	basicBlock   = 512 // the unit of bytes in struct fs_disk_quota
	kib          = 1024
	blocksPerKiB = kib / basicBlock
)

// diskQuota is struct fs_disk_quota of linux/dqblk_xfs.h.
type diskQuota struct {
	version, flags         int8
	fields                 uint16
	id                     uint32
	hardBlocks, softBlocks uint64
	hardInodes, softInodes uint64
	blocks, inodes         uint64
	inodeTimer, blockTimer int32
	inodeWarns, blockWarns uint16
	_                      [4]int8
	realtimeHard           uint64
	realtimeSoft           uint64
	realtimeBlocks         uint64
	realtimeTimer          int32
	realtimeWarns          uint16
	_                      [10]byte
}

// quotaStatV is struct fs_quota_statv of linux/dqblk_xfs.h.
type quotaStatV struct {
	version int8
	_       uint8
	flags   uint16
	_       uint32
	_       [3]struct {
		inode, blocks uint64
		extents, _    uint32
	}
	_ [3]int32 // time limits
	_ [4]uint16
	_ uint32
	_ [7]uint64
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// The direction bits of an ioctl's number differ between architectures: they are taken from two that x/sys
// knows for each.
const (
	iocRead  = unix.FS_IOC_GETFLAGS & 0xE0000000
	iocWrite = unix.FS_IOC_SETFLAGS & 0xE0000000

	sizeOfFsxattr = 28
	getAttributes = iocRead | sizeOfFsxattr<<16 | 'X'<<8 | 31  // FS_IOC_FSGETXATTR
	setAttributes = iocWrite | sizeOfFsxattr<<16 | 'X'<<8 | 32 // FS_IOC_FSSETXATTR
)

func attributes(f *os.File) (fsxattr, error) {
	var a fsxattr
	err := ioctl(f, getAttributes, unsafe.Pointer(&a))
	return a, err
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	return retry(func() unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		return errno
	})
}

// control is quotactl_fd(2) for projects.
func control(f *os.File, command uintptr, id ID, arg unsafe.Pointer) error {
	return retry(func() unix.Errno {
		_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), command<<8|projectType, uintptr(id), uintptr(arg), 0, 0)
		return errno
	})
}

func retry(call func() unix.Errno) error {
	for {
		switch errno := call(); {
		case errno == 0:
			return nil
		case !errors.Is(errno, unix.EINTR):
			return errno
		}
	}
}

func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func bytesOf(blocks uint64) int64 {
	if blocks > math.MaxInt64/basicBlock {
		return math.MaxInt64
	}
	return int64(blocks * basicBlock)
}
