package disk

import (
	"context"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// Expand grows a partition into the free space behind it, in use or not, and brings its mark up to the record.
func (p *pool) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	m, err := p.expand(ctx, v)
	return m, p.about(err, "expand", v)
}

func (p *pool) expand(ctx context.Context, v datastore.Volume) (is datastore.Made, err error) {
	if v.Snapshot {
		return is, fault.New(fault.Invalid, "a snapshot never grows; make a larger volume from it")
	}
	defer p.begin(v)()
	err = p.on(ctx, v, true, func(o opened, n int, k mark) error {
		if !k.there() {
			return fault.New(fault.NotFound, "it is %s only", k.Phase)
		}
		if err := o.matches(n, k); err != nil {
			return err
		}
		bytes := max(roundUp(v.Bytes), k.Bytes)
		if bytes > k.Bytes {
			if k, err = o.grow(ctx, n, k, bytes); err != nil {
				return err
			}
		}
		if bytes != k.Bytes || v.OnDelete != k.OnDelete || v.Wipe != k.Wipe {
			k.Bytes, k.Span.Bytes, k.Grow = bytes, bytes, 0
			k.OnDelete, k.Wipe = v.OnDelete, v.Wipe
			if err := o.note(ctx, n, k); err != nil {
				return err
			}
		}
		is = made(o.guid, k)
		return nil
	})
	return is, err
}

// grow makes a volume's partition larger, in the table and for the kernel; the mark that it returns takes the space and
// doesn't yet say the size.
func (o opened) grow(ctx context.Context, n int, k mark, bytes int64) (mark, error) {
	more := gpt.Span{Start: k.Span.End(), Bytes: bytes - k.Span.Bytes}
	o.pool.mu.Lock()
	now := o.table.Span(o.table.Partitions[n-1])
	clean := o.clean(more)
	err := o.room(n, k, more)
	o.pool.mu.Unlock()
	if now.Bytes < bytes {
		if err != nil {
			return k, err
		}
		if k.Grow != bytes {
			k.Grow = bytes
			if err := o.note(ctx, n, k); err != nil {
				return k, err
			}
		}
		// No partition has the space yet, so it is zeroed through the disk: what a file system grows into it never shows.
		if k.Access == v1alpha1.Block && !clean {
			// How far it is isn't kept: growth is seldom cut off.
			if err := blockdev.Zero(ctx, o.file, now.End(), k.Span.Start+bytes, func(int64) error { return nil }); err != nil {
				return k, err
			}
		}
		err = o.change(ctx, func(t *gpt.Table) {
			t.Partitions[n-1] = t.Placed(t.Partitions[n-1], gpt.Span{Start: k.Span.Start, Bytes: bytes})
		})
		if err != nil {
			return k, err
		}
		now.Bytes = bytes
	}
	if err := gpt.Resize(ctx, o.file, n, now); err != nil {
		return k, err
	}
	return k, o.refresh(ctx, n)
}

// refresh tells a loop device on a partition, for those who only read, how large that is now.
func (o opened) refresh(ctx context.Context, n int) error {
	d, ok, err := gpt.Find(o.file, n)
	if err != nil || !ok {
		return err
	}
	return onNode(d, func(f *os.File) error {
		l, ok, err := o.pool.tools.Loop.Find(f, true)
		if err != nil || !ok {
			return err
		}
		_, err = o.pool.tools.Loop.Refresh(ctx, l)
		return err
	})
}

// room is an error where what is behind a partition isn't free: fault.OutOfRange where it never can be, since the disk
// ends there. The pool's mu is held.
func (o opened) room(n int, k mark, more gpt.Span) error {
	end := int64(o.table.LastUsable+1) * int64(o.table.SectorSize) / gpt.MiB * gpt.MiB
	if more.End() > end {
		return fault.New(fault.OutOfRange, "partition %d of %s can have %d bytes at most, up to the end of the disk: make a larger volume, on another disk if need be, as a clone of it",
			n, o.path, end-k.Span.Start)
	}
	var taken []gpt.Span
	for i, e := range o.entries {
		if e.mark != nil && i != n {
			taken = append(taken, e.mark.takes())
		}
	}
	var free gpt.Span
	for _, f := range o.table.Free(taken...) {
		if f.Start <= more.Start && more.End() <= f.End() {
			return nil
		}
		if f.Start <= more.Start && more.Start < f.End() {
			free = gpt.Span{Start: more.Start, Bytes: f.End() - more.Start}
		}
	}
	return fault.New(fault.Exhausted, "it needs %d bytes more right behind partition %d of %s, %d are free there: delete the volume that follows, or make a larger one as a clone of it",
		more.Bytes, n, o.path, free.Bytes)
}

// settleGrowth ends a growth that was cut off and that nobody asks for any more: where the table has it, the mark says so;
// else its space is given back.
func (o opened) settleGrowth(ctx context.Context, n int, k mark) error {
	if err := o.matches(n, k); err != nil {
		return err
	}
	o.pool.mu.Lock()
	now := o.table.Span(o.table.Partitions[n-1])
	o.pool.mu.Unlock()
	if now.Bytes == k.Grow {
		k.Bytes, k.Span.Bytes = k.Grow, k.Grow
		if err := gpt.Resize(ctx, o.file, n, now); err != nil {
			return err
		}
	}
	k.Grow = 0
	return o.note(ctx, n, k)
}
