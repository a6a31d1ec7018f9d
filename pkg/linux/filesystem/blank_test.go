package filesystem

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// zeroes is a device that reads as zeroes, but for a region that can't be read.
type zeroes struct{ size, badFrom, badTo int64 }

func (z zeroes) ReadAt(b []byte, off int64) (int, error) {
	end := off + int64(len(b))
	if off < z.badTo && end > z.badFrom {
		return 0, syscall.EIO
	}
	clear(b)
	if end > z.size {
		return int(max(0, z.size-off)), io.EOF
	}
	return len(b), nil
}

func TestEveryRegionIsReadAndAFailedReadIsAnError(t *testing.T) {
	for _, size := range []int64{1, 4096, 4 * mib, 4*mib + 1, 300 * mib, 1024 * gib} {
		list := regions(size)
		if ok, err := readsZero(t.Context(), zeroes{size: size}, list); err != nil || !ok {
			t.Errorf("%d bytes: %v, %v", size, ok, err)
		}
		if first, last := list[0], list[min(1, len(list)-1)]; first.offset != 0 || last.offset+last.size != size {
			t.Errorf("%d bytes: the ends are not read: %v", size, list)
		}
		for _, g := range list {
			if g.offset < 0 || g.offset+g.size > size {
				t.Errorf("%d bytes: region %v", size, g)
			}
			middle := g.offset + g.size/2
			ok, err := readsZero(t.Context(), zeroes{size: size, badFrom: middle, badTo: middle + 1}, list)
			if ok || !fault.Is(err, fault.Unavailable) || !errors.Is(err, syscall.EIO) {
				t.Errorf("%d bytes, bad at %d: %v, %v", size, middle, ok, err)
			}
		}
	}
}

func TestADeviceThatShrinksIsNotBlank(t *testing.T) {
	ok, err := readsZero(t.Context(), zeroes{size: gib / 2}, regions(gib))
	if ok || !errors.Is(err, io.EOF) || !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := readsZero(ctx, zeroes{size: gib}, regions(gib)); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", ok, err)
	}
}
