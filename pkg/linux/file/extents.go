package file

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Extent is a range of a file that lies in one piece on the storage. All figures are bytes.
type Extent struct {
	// Start in the file, Physical on the storage of the file system, and its length.
	Start, Physical, Bytes int64
	// Shared tells that another file, or another range of this one, may have the same blocks.
	Shared bool
	// Unwritten tells that it is allocated but reads as zeroes whatever its blocks hold.
	Unwritten bool
	// Unplaced tells that Physical says nothing: the data isn't on the storage yet, or in no blocks of its own.
	Unplaced bool
}

// The layout of struct fiemap and struct fiemap_extent, and their flags (linux/fiemap.h).
const (
	fsIocFiemap = 0xC020660B

	fiemapHeader = 32
	fiemapExtent = 56
	fiemapBatch  = 256

	fiemapSync = 0x1

	fiemapLast       = 0x1
	fiemapUnknown    = 0x2
	fiemapDelalloc   = 0x4
	fiemapEncoded    = 0x8
	fiemapEncrypted  = 0x80
	fiemapNotAligned = 0x100
	fiemapInline     = 0x200
	fiemapTail       = 0x400
	fiemapUnwritten  = 0x800
	fiemapShared     = 0x2000

	fiemapUnplaced = fiemapUnknown | fiemapDelalloc | fiemapEncoded | fiemapEncrypted | fiemapNotAligned | fiemapInline | fiemapTail
)

// Extents tells each extent of a file that touches a range, in their order, until more says no
// (Documentation/filesystems/fiemap.rst), after what was written is on the storage. The first and the last may
// reach beyond the range. A file that others change meanwhile may yield some twice or not at all. It ends
// with ctx. A file system that can't tell is fault.Precondition.
func Extents(ctx context.Context, f *os.File, start, end int64, more func(Extent) bool) error {
	return extents(ctx, f, start, end, fiemapSync, more)
}

// ExtentsAsTheyAre is Extents without waiting for what was written: some may have no place yet.
func ExtentsAsTheyAre(ctx context.Context, f *os.File, start, end int64, more func(Extent) bool) error {
	return extents(ctx, f, start, end, 0, more)
}

func extents(ctx context.Context, f *os.File, start, end int64, flags uint32, more func(Extent) bool) error {
	buffer := make([]byte, fiemapHeader+fiemapBatch*fiemapExtent)
	for start < end {
		if err := ctx.Err(); err != nil {
			return failed("map", f.Name(), err)
		}
		n, err := fiemap(f, start, end, flags, buffer)
		if err != nil {
			return failed("map", f.Name(), err)
		}
		for i := range n {
			e, last := extentOf(buffer[fiemapHeader+i*fiemapExtent:])
			if !more(e) || last {
				return nil
			}
			start = e.Start + e.Bytes
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}

// fiemap fills the buffer with the extents of a range and returns the number of extents in it.
func fiemap(f *os.File, start, end int64, flags uint32, buffer []byte) (int, error) {
	clear(buffer[:fiemapHeader])
	ne := binary.NativeEndian
	ne.PutUint64(buffer[0:], uint64(start))
	ne.PutUint64(buffer[8:], uint64(end-start))
	ne.PutUint32(buffer[16:], flags)
	ne.PutUint32(buffer[24:], fiemapBatch)
	err := retry(func() error {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&buffer[0])))
		if no != 0 {
			return no
		}
		return nil
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		err = unix.EPERM // a state of things that stays as it is
	}
	return int(ne.Uint32(buffer[20:])), err
}

func extentOf(b []byte) (e Extent, last bool) {
	ne := binary.NativeEndian
	flags := ne.Uint32(b[40:])
	return Extent{
		Start: int64(ne.Uint64(b[0:])), Physical: int64(ne.Uint64(b[8:])), Bytes: int64(ne.Uint64(b[16:])),
		Shared: flags&fiemapShared != 0, Unwritten: flags&fiemapUnwritten != 0, Unplaced: flags&fiemapUnplaced != 0,
	}, flags&fiemapLast != 0
}
