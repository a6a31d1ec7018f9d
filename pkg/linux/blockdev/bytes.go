package blockdev

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const (
	// atOnce is how much of a device is zeroed, discarded or copied between two calls of a Tell, in bytes.
	atOnce = 64 << 20
	// moved is how many bytes are read and written at a time.
	moved = 1 << 20
)

// Tell is told up to which offset the work is done and on the medium: whoever notes that can go on from there after a
// crash. An error of it ends the work.
type Tell func(offset int64) error

// Zero makes a range of a device that is open for writing read as zeroes, by the device's own command where it has one
// that guarantees it, else by writing them (BLKZEROOUT, block/ioctl.c). The range is of whole sectors. It ends with
// ctx after at most 64 MiB more, and may be begun again from the offset that tell was last told.
func Zero(ctx context.Context, f *os.File, start, end int64, tell Tell) error {
	return inPieces(ctx, f, start, end, tell, "zero", func(from, to int64) error {
		span := [2]uint64{uint64(from), uint64(to - from)}
		return ioctl(f, unix.BLKZEROOUT, unsafe.Pointer(&span))
	})
}

// Range is a part of a device, in bytes.
type Range struct{ Start, End int64 }

// ZeroAll is Zero of several small ranges in one step, with one flush.
func ZeroAll(ctx context.Context, f *os.File, ranges []Range) error {
	err := step.Do(ctx, "zero parts of "+f.Name(), func() error {
		for _, r := range ranges {
			if err := ctx.Err(); err != nil {
				return err
			}
			span := [2]uint64{uint64(r.Start), uint64(r.End - r.Start)}
			if err := ioctl(f, unix.BLKZEROOUT, unsafe.Pointer(&span)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return failure("zero parts of", f.Name(), err)
	}
	return Sync(f)
}

// SetReadOnly has the kernel refuse writes to an open device, or allow them (BLKROSET).
func SetReadOnly(ctx context.Context, f *os.File, readOnly bool) error {
	flag := int32(0)
	if readOnly {
		flag = 1
	}
	now, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err == nil && (now != 0) == readOnly {
		return nil
	}
	err = step.Do(ctx, "protect "+f.Name()+" from writes, or not", func() error { return ioctl(f, unix.BLKROSET, unsafe.Pointer(&flag)) })
	if err != nil {
		return failure("set the write protection of", f.Name(), err)
	}
	return nil
}

// Discard tells a device that a range of it is not needed any more (BLKDISCARD). What is read there afterwards isn't
// known. A device that takes no discards is left as it is: done is false then.
func Discard(ctx context.Context, f *os.File, start, end int64, tell Tell) (done bool, err error) {
	err = inPieces(ctx, f, start, end, tell, "discard", func(from, to int64) error {
		span := [2]uint64{uint64(from), uint64(to - from)}
		return ioctl(f, unix.BLKDISCARD, unsafe.Pointer(&span))
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

// inPieces does something to a range piece by piece, each as one step, flushes each and tells of it.
func inPieces(ctx context.Context, f *os.File, start, end int64, tell Tell, verb string, do func(from, to int64) error) error {
	for at := start; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := min(end, at+atOnce)
		if err := step.Do(ctx, verb+" a range of "+f.Name(), func() error { return do(at, next) }); err != nil {
			return failure(verb+" a range of", f.Name(), err)
		}
		if err := Sync(f); err != nil {
			return err
		}
		at = next
		if err := tell(at); err != nil {
			return err
		}
	}
	return nil
}

// Copying says what Copy copies.
type Copying struct {
	To, From *os.File
	// Start and End are the range, the same on both.
	Start, End int64
	// Zeroed says that the target reads as zeroes there, so that zeroes need not be written.
	Zeroed bool
	Tell   Tell
}

// Copy copies a range from one device, or file, to another, past what others read: the page cache is given back. It ends
// with ctx after at most 1 MiB more, and may be begun again from the offset that Tell was last told. A range that the
// source doesn't have is fault.Precondition, a sector that can't be read fault.Unavailable with its place.
func Copy(ctx context.Context, c Copying) error {
	buffer := Aligned(moved)
	for at := c.Start; at < c.End; {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := min(c.End, at+atOnce)
		err := step.Do(ctx, "copy a range to "+c.To.Name(), func() error { return c.piece(ctx, buffer, at, end) })
		if err != nil {
			return err
		}
		if err := Sync(c.To); err != nil {
			return err
		}
		for _, f := range []*os.File{c.From, c.To} {
			_ = unix.Fadvise(int(f.Fd()), at, end-at, unix.FADV_DONTNEED) // a favour to others, no more
		}
		at = end
		if err := c.Tell(at); err != nil {
			return err
		}
	}
	return nil
}

func (c Copying) piece(ctx context.Context, buffer []byte, at, end int64) error {
	for at < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buffer[:min(int64(len(buffer)), end-at)]
		n, err := c.From.ReadAt(b, at)
		if errors.Is(err, io.EOF) && n < len(b) {
			return fault.New(fault.Precondition, "%s ends at %d bytes, %d were to be copied", c.From.Name(), at+int64(n), c.End)
		}
		if n < len(b) {
			return fault.New(fault.Unavailable, "can't read %d bytes at offset %d of %s: %w", len(b), at, c.From.Name(), cause(err))
		}
		if !c.Zeroed || !isZero(b) {
			if _, err := c.To.WriteAt(b, at); err != nil {
				return failure("write to", c.To.Name(), cause(err))
			}
		}
		at += int64(len(b))
	}
	return nil
}

// isZero tells whether b holds nothing but zeroes.
func isZero(b []byte) bool { return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:]) }
