package file

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// ZeroRange writes zeroes to a range of an open file, as data: no block is given back or merely marked as zero.
// Whether they reach the blocks that the range had is the file system's matter. It ends with ctx. They are
// durable after Sync.
func ZeroRange(ctx context.Context, f *os.File, start, end int64) error {
	zeroes := make([]byte, moved)
	err := step.Do(ctx, "write zeroes to "+lastOf(f.Name()), func() error {
		for at := start; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := f.WriteAt(zeroes[:min(moved, end-at)], at)
			if err != nil {
				return err
			}
			at += int64(n)
		}
		return nil
	})
	return failed("write zeroes to", f.Name(), err)
}

// PunchHole gives the blocks of a range of an open file back to the file system, which tells the storage below
// where it is mounted to do so (fallocate(2), FALLOC_FL_PUNCH_HOLE). The file keeps its length.
func PunchHole(ctx context.Context, f *os.File, start, end int64) error {
	err := step.Do(ctx, "give back a range of "+lastOf(f.Name()), func() error {
		return retry(func() error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, end-start)
		})
	})
	return failed("give back a range of", f.Name(), err)
}

// The structure of XFS_IOC_FREE_EOFBLOCKS and what is written to it (fs/xfs/libxfs/xfs_fs.h: struct
// xfs_fs_eofblocks, of 128 bytes).
const (
	xfsFreeBlocks        = 0x8080583a
	xfsFreeBlocksSize    = 128
	xfsFreeBlocksVersion = 1
	xfsFreeBlocksSync    = 1
)

// FreeReserved makes xfs give back the blocks that it holds ready behind the ends of files and for writes to shared
// blocks, on the whole file system that an open file lies on. It changes no data, and other file systems not
// at all.
func FreeReserved(f *os.File) error {
	request := make([]byte, xfsFreeBlocksSize)
	binary.NativeEndian.PutUint32(request[0:], xfsFreeBlocksVersion)
	binary.NativeEndian.PutUint32(request[4:], xfsFreeBlocksSync)
	err := retry(func() error {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), xfsFreeBlocks, uintptr(unsafe.Pointer(&request[0])))
		if no != 0 {
			return no
		}
		return nil
	})
	if cannot(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return failed("give back reserved blocks beside", f.Name(), err)
}
