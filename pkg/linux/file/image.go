package file

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Truncate makes an open file that long, in bytes. What is added is a hole; what lies behind the end, if
// only allocated, is given back.
func Truncate(ctx context.Context, f *os.File, bytes int64) error {
	err := step.Do(ctx, "set the size of "+lastOf(f.Name()), func() error { return f.Truncate(bytes) })
	return failed("set the size of", f.Name(), err)
}

// allocateAtOnce is how much one fallocate(2) is asked for, so that a context can end a large one.
const allocateAtOnce = 1 << 30

// Allocate takes space on the storage for the first bytes of an open file and leaves its length and
// content alone (fallocate(2), FALLOC_FL_KEEP_SIZE). What is allocated already costs next to nothing. No
// space is fault.Exhausted, a file system that can't is fault.Precondition; what was allocated until
// then stays, and goes with Truncate where it lies behind the end.
func Allocate(ctx context.Context, f *os.File, bytes int64) error {
	err := step.Do(ctx, "allocate "+lastOf(f.Name()), func() error {
		for off := int64(0); off < bytes; off += allocateAtOnce {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(allocateAtOnce, bytes-off)
			if err := retry(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err == unix.EOPNOTSUPP { //nolint:errorlint // as the call above returned it
		return fault.New(fault.Precondition, "allocate %s: its file system can't take space in advance: %w", f.Name(), err)
	}
	return failed("allocate", f.Name(), err)
}

// fsNoCow is FS_NOCOW_FL of linux/fs.h.
const fsNoCow = 0x00800000

// SetNoCow makes btrfs overwrite an open file in place rather than write elsewhere and switch over
// (ioctl_iflags(2)). It holds for a file that is empty still; checksums and compression go with it.
func SetNoCow(ctx context.Context, f *os.File) error {
	err := step.Do(ctx, "set overwriting in place on "+lastOf(f.Name()), func() error {
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|fsNoCow))
	})
	return failed("set overwriting in place on", f.Name(), err)
}

// Sync makes an open file's content durable.
func Sync(f *os.File) error { return sync(f) }

// DirectIOAlignment returns the alignment in bytes that direct I/O on an open file needs of offset and
// length (statx(2), STATX_DIOALIGN, Linux 6.1); 0 where the file system doesn't say.
func DirectIOAlignment(f *os.File) (int, error) {
	var s unix.Statx_t
	err := retry(func() error { return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &s) })
	if err != nil {
		return 0, failed("stat", f.Name(), err)
	}
	if s.Mask&unix.STATX_DIOALIGN == 0 {
		return 0, nil
	}
	return int(s.Dio_offset_align), nil
}

// PathForTool returns a path by which a tool that this process runs reaches the open file itself,
// whatever has become of its name and whichever mount namespace its name is of (proc(5), /proc/pid/fd).
// The file must stay open until the tool has ended.
func PathForTool(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }
