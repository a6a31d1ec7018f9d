package filesystem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

const (
	// blankEdge is what is read at either end, in bytes: all that knows file systems, partition tables,
	// RAID and LVM keeps its first and its last signature there.
	blankEdge = 2 * mib
	// blankSamples is how many regions of blankSample bytes are read in between, evenly spread.
	blankSamples = 32
	blankSample  = 64 * kib
)

// Blank tells whether a block device or image file reads as zeroes: its first and last 2 MiB and
// samples in between (evenly spread, and where ext4 and btrfs keep their copies of the superblock), or
// all of it where it is a file that the file system under it knows to be a hole. Anything that can't be
// read is an error, and so is a device of no bytes.
func Blank(ctx context.Context, run *command.Runner, path string) (bool, error) {
	what, err := content(ctx, run, path)
	return what != hasData, fault.Wrap(err, "read", path)
}

// emptiness is what reading tells about storage.
type emptiness int

const (
	hasData    emptiness = iota // some byte isn't zero
	readsBlank                  // nothing but zeroes wherever it was read
	isHole                      // a file of which nothing was ever written
)

// Erase makes an open block device blank to every probe: the parts that Blank reads are zeroed, durably and as one step. What
// lies between them stays; Make overwrites what a file system reads of it. It is for a device that the caller has proven to
// be its own.
func Erase(ctx context.Context, device *os.File) error {
	size, err := blockdev.SizeOf(device)
	if err != nil {
		return err
	}
	var parts []blockdev.Range
	for _, g := range regions(size) {
		parts = append(parts, blockdev.Range{Start: g.offset, End: g.offset + g.size})
	}
	return blockdev.ZeroAll(ctx, device, parts)
}

// content tells how empty a path is; hasData where there is an error.
func content(ctx context.Context, run *command.Runner, path string) (emptiness, error) {
	return command.Await(ctx, run, "read "+path, func(ctx context.Context) (emptiness, error) {
		f, err := open(path)
		if err != nil {
			return hasData, err
		}
		what, err := examine(ctx, f)
		return what, closed(f, err)
	})
}

func examine(ctx context.Context, f *os.File) (emptiness, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return hasData, fault.New(fault.Unavailable, "can't tell the size: %w", err)
	}
	if size == 0 {
		return hasData, fault.New(fault.Unavailable, "it has no bytes: it is empty or not connected")
	}
	st, err := f.Stat()
	if err != nil {
		return hasData, fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	if st.Mode().IsRegular() {
		_, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return isHole, nil // lseek(2): no data up to the end of the file
		}
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: the file system can't tell
			return hasData, fault.New(fault.Unavailable, "can't look for data: %w", err)
		}
	}
	blank, err := readsZero(ctx, f, regions(size))
	if err != nil || !blank {
		return hasData, err
	}
	return readsBlank, nil
}

// region is a part of a device, in bytes.
type region struct{ offset, size int64 }

// regions lists what Blank reads of a device of that size.
func regions(size int64) []region {
	if size <= 2*blankEdge {
		return []region{{0, size}}
	}
	out := []region{{0, blankEdge}, {size - blankEdge, blankEdge}}
	sample := func(offset int64) {
		if offset >= 0 && offset <= size-blankSample {
			out = append(out, region{offset, blankSample})
		}
	}
	for i := int64(1); i <= blankSamples; i++ {
		sample(size / (blankSamples + 1) * i &^ (4*kib - 1))
	}
	for _, copyAt := range []int64{
		8 * mib, 32 * mib, 128 * mib, // the first backup of ext4 with blocks of 1, 2 and 4 KiB
		64 * mib, 256 * gib, // btrfs
	} {
		sample(copyAt)
	}
	return out
}

// readsZero reads regions and tells whether every byte is zero.
func readsZero(ctx context.Context, r io.ReaderAt, list []region) (bool, error) {
	buffer := make([]byte, 256*kib)
	for _, g := range list {
		for done := int64(0); done < g.size; {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			b := buffer[:min(int64(len(buffer)), g.size-done)]
			if n, err := r.ReadAt(b, g.offset+done); n < len(b) {
				return false, fault.New(fault.Unavailable, "can't read %d bytes at offset %d: %w", len(b), g.offset+done, err)
			}
			if b[0] != 0 || !bytes.Equal(b[:len(b)-1], b[1:]) {
				return false, nil
			}
			done += int64(len(b))
		}
	}
	return true, nil
}
