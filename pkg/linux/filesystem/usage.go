package filesystem

import (
	"errors"
	"math"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Usage is the room of a mounted file system. A file system that doesn't count inodes (btrfs) has 0 of
// them.
type Usage struct {
	TotalBytes, UsedBytes, AvailableBytes int64
	TotalInodes, UsedInodes, FreeInodes   int64
}

// Stat returns the usage of the file system that a path lies on, as statfs(2) tells it. Available bytes
// are those of a user without privileges. A path that isn't there is fault.NotFound.
func Stat(path string) (Usage, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			return usage(&st), nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		kind := fault.Unavailable
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			kind = fault.NotFound
		}
		return Usage{}, fault.New(kind, "can't read the usage of the file system at %s: %w", shorten(path), err)
	}
}

func usage(st *unix.Statfs_t) Usage {
	unit := uint64(max(st.Frsize, 0))
	if unit == 0 {
		unit = uint64(max(st.Bsize, 0))
	}
	return Usage{
		TotalBytes:     clamp(st.Blocks, unit),
		UsedBytes:      clamp(st.Blocks-min(st.Bfree, st.Blocks), unit),
		AvailableBytes: clamp(st.Bavail, unit),
		TotalInodes:    clamp(st.Files, 1),
		UsedInodes:     clamp(st.Files-min(st.Ffree, st.Files), 1),
		FreeInodes:     clamp(st.Ffree, 1),
	}
}

// clamp multiplies, and stops at the largest number that callers can carry.
func clamp(a, b uint64) int64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
