package filesystem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The direction bits of an ioctl's number differ between architectures: they are taken from two ioctls
// that x/sys knows for each (_IOR and _IOW, include/uapi/asm-generic/ioctl.h).
const (
	iocRead  = unix.FS_IOC_GETFLAGS & 0xE0000000
	iocWrite = unix.FS_IOC_SETFLAGS & 0xE0000000
)

// ioctlNumber builds the number of an ioctl.
func ioctlNumber(direction uintptr, group byte, number byte, size uintptr) uintptr {
	return direction | size<<16 | uintptr(group)<<8 | uintptr(number)
}

// ioctl calls the kernel and returns its non-negative answer.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno == 0 {
			return int(r), nil
		}
		if !errors.Is(errno, unix.EINTR) {
			return 0, errno
		}
	}
}

// ext4Growth: EXT4_IOC_RESIZE_FS, fs/ext4/ioctl.c, takes the number of blocks and returns at once where
// the file system has them. It needs CAP_SYS_RESOURCE.
func ext4Growth(fd int, deviceBytes int64) (func() error, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return nil, fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	if usage(&st).TotalBytes >= deviceBytes {
		return nil, nil
	}
	blocks := uint64(deviceBytes) / uint64(st.Bsize)
	return func() error {
		_, err := ioctl(fd, ioctlNumber(iocWrite, 'f', 16, unsafe.Sizeof(blocks)), unsafe.Pointer(&blocks))
		return err
	}, nil
}

// xfsGeometry is the beginning of struct xfs_fsop_geom_v1 (fs/xfs/libxfs/xfs_fs.h), which every kernel
// answers, and room for the rest.
type xfsGeometry struct {
	blockSize, _, _, _, _, _, _, imaxpct uint32
	dataBlocks                           uint64
	_                                    [72]byte
}

// xfsGrow is struct xfs_growfs_data.
type xfsGrow struct {
	newBlocks uint64
	imaxpct   uint32
	_         uint32
}

// xfsGrowth: XFS_IOC_FSGROWFSDATA, fs/xfs/xfs_fsops.c; XFS_IOC_FSGEOMETRY_V1 tells what there is.
func xfsGrowth(fd int, deviceBytes int64) (func() error, error) {
	var g xfsGeometry
	if _, err := ioctl(fd, ioctlNumber(iocRead, 'X', 100, unsafe.Sizeof(g)), unsafe.Pointer(&g)); err != nil {
		return nil, fault.New(fault.Internal, "can't read its geometry: %w", err)
	}
	if g.blockSize == 0 {
		return nil, fault.New(fault.Internal, "its geometry has blocks of 0 bytes")
	}
	arg := xfsGrow{newBlocks: uint64(deviceBytes) / uint64(g.blockSize), imaxpct: g.imaxpct}
	if arg.newBlocks <= g.dataBlocks {
		return nil, nil
	}
	return func() error {
		_, err := ioctl(fd, ioctlNumber(iocWrite, 'X', 110, unsafe.Sizeof(arg)), unsafe.Pointer(&arg))
		return err
	}, nil
}

// btrfsDevice is the beginning of struct btrfs_ioctl_dev_info_args (include/uapi/linux/btrfs.h).
type btrfsDevice struct {
	id         uint64
	_          [16]byte
	_          uint64
	totalBytes uint64
	_          [4096 - 40]byte
}

// btrfsResize is struct btrfs_ioctl_vol_args.
type btrfsResize struct {
	_    int64
	name [4088]byte
}

// btrfsGrowth: BTRFS_IOC_RESIZE, fs/btrfs/ioctl.c, of the only device that a volume has.
func btrfsGrowth(fd int, deviceBytes int64) (func() error, error) {
	device := btrfsDevice{id: 1}
	if _, err := ioctl(fd, ioctlNumber(iocRead|iocWrite, 0x94, 30, unsafe.Sizeof(device)), unsafe.Pointer(&device)); err != nil {
		return nil, fault.New(fault.Internal, "can't read its device 1: %w", err)
	}
	const unit = 4096 // the kernel rounds down to its sector size
	if uint64(deviceBytes)/unit <= device.totalBytes/unit {
		return nil, nil
	}
	return func() error {
		var arg btrfsResize
		copy(arg.name[:], "1:max")
		answer, err := ioctl(fd, ioctlNumber(iocWrite, 0x94, 3, unsafe.Sizeof(arg)), unsafe.Pointer(&arg))
		if err == nil && answer > 0 { // enum btrfs_err_code
			err = fault.New(fault.Busy, "another operation that excludes it is at work (balance, device removal): code %d", answer)
		}
		return err
	}, nil
}
