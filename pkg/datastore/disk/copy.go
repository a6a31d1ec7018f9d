package disk

import (
	"context"
	"errors"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// Snapshot is refused: a partition can't be copied at one instant.
func (p *pool) Snapshot(_ context.Context, _, snap datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	return datastore.Made{}, noSnapshots(snap, p.name)
}

func noSnapshots(snap datastore.Volume, on string) error {
	return fault.New(fault.Invalid, "make snapshot %s on datastore %s: volumes of type disk can't be snapshot; those of types lvm, directory and partition can, "+
		"and a volume of type disk can be cloned while nobody uses it", shorten(snap.ID), on)
}

// source returns the mark of what is to be copied.
func (p *pool) source(ctx context.Context, v, from datastore.Volume) (source mark, err error) {
	if from.Snapshot {
		return mark{}, fault.New(fault.NotFound, "snapshot %s isn't there: there are none on type disk", shorten(from.ID))
	}
	err = p.on(ctx, from, false, func(_ opened, _ int, k mark) error {
		if !k.there() {
			return fault.New(fault.NotFound, "it is %s only", k.Phase)
		}
		source = k
		return nil
	})
	if err != nil {
		return mark{}, fault.Wrap(err, "find the source", from.ID)
	}
	return source, source.copyable(v)
}

// copyable refuses copies that could never be used.
func (k mark) copyable(v datastore.Volume) error {
	fsType, sourceType := "", ""
	if v.Filesystem != nil {
		fsType = v.Filesystem.Type
	}
	if k.Filesystem != nil {
		sourceType = k.Filesystem.Type
	}
	switch {
	case v.Access != k.Access:
		return fault.New(fault.Invalid, "access %q is asked for, its source %s is of access %q", v.Access, k.ID, k.Access)
	case fsType != sourceType:
		return fault.New(fault.Invalid, "file system %q is asked for, its source %s has %q", fsType, k.ID, sourceType)
	case v.Bytes < k.Bytes:
		return fault.New(fault.OutOfRange, "%d bytes are asked for, its source %s has %d", v.Bytes, k.ID, k.Bytes)
	}
	return nil
}

// copy copies a volume that nobody uses, and can't be mounted meanwhile, from where an earlier call was cut off.
func (p *pool) copy(ctx context.Context, v datastore.Volume, to part, of datastore.Volume, progress datastore.Progress) error {
	from, err := p.detached(ctx, of)
	if err != nil {
		return err
	}
	defer p.let(ctx, of)
	defer func() { _ = from.file.Close() }() // only read
	total := from.k.Bytes
	progress(min(to.k.Done, total), total)
	err = p.noting(ctx, v, making, func(tell blockdev.Tell) error {
		return blockdev.Copy(ctx, blockdev.Copying{
			To: to.file, From: from.file, Start: min(to.k.Done, total), End: total, Zeroed: to.k.Clean,
			Tell: func(offset int64) error {
				progress(offset, total)
				return tell(offset)
			},
		})
	})
	if err != nil {
		return err
	}
	if v.Filesystem == nil {
		err = p.zero(ctx, v, to, max(to.k.Done, total))
	} else if v.Filesystem.Type == string(filesystem.Btrfs) {
		// The kernel knows a btrfs by its UUID. Copies of ext4 and xfs keep their source's.
		err = filesystem.SetBtrfsUUID(ctx, p.tools.Command, file.PathForTool(to.file), v.Filesystem.UUID)
	}
	if err != nil {
		return err
	}
	return blockdev.Sync(to.file)
}

// detached opens a source so that nobody can mount it. One that anybody uses is fault.Precondition.
func (p *pool) detached(ctx context.Context, of datastore.Volume) (from part, err error) {
	err = p.on(ctx, of, false, func(o opened, n int, k mark) error {
		if err := o.detach(ctx, n); err != nil {
			return fault.New(fault.Precondition, "its source %s is in use, and type disk copies only what is not: %w", of.ID, err)
		}
		from, err = o.claim(ctx, n, k, false)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return part{}, fault.Wrap(err, "find the source", of.ID)
	}
	return from, err
}

// let has the kernel forget a partition that nobody uses any more. Where it can't, Close and Delete can.
func (p *pool) let(ctx context.Context, v datastore.Volume) {
	_ = p.on(context.WithoutCancel(ctx), v, false, func(o opened, n int, _ mark) error { return o.detach(ctx, n) })
}

// tear has copies of a volume that are cut off begin again: it is about to be written to.
func (p *pool) tear(ctx context.Context, source datastore.Volume) error {
	p.mu.Lock()
	var copies []datastore.Volume
	for _, m := range p.members {
		for _, e := range m.entries {
			if e.mark != nil && e.mark.Phase == making && e.mark.Source != nil && *e.mark.Source == (origin{ID: source.ID, UID: source.UID}) &&
				(e.mark.Done > 0 || e.mark.Clean) { // what a crash left unnoted makes its space no cleaner
				copies = append(copies, e.mark.volume())
			}
		}
	}
	p.mu.Unlock()
	var errs []error
	for _, c := range copies {
		err := p.on(ctx, c, true, func(o opened, n int, k mark) error {
			if k.Phase != making {
				return nil
			}
			k.Done, k.Clean = 0, false
			return o.note(ctx, n, k)
		})
		if !fault.Is(err, fault.NotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
