package file

import (
	"context"
	"os"

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
