package disk

import (
	"context"
	"errors"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// Create makes a volume of the disk that its record names, which is blank, clean, or bears the header of an earlier try. The
// header stays until the volume is opened: what was made is told from a stranger's until its record says that it is.
func (p *wholes) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if progress == nil {
		progress = func(_, _ int64) {}
	}
	m, err := p.create(ctx, v, from, progress)
	return m, p.about(err, "create", v)
}

func (p *wholes) create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if err := errors.Join(check(v, p.config.ClusterID), lacking(p.capabilities, v)); err != nil {
		return datastore.Made{}, err
	}
	if v.Location == "" {
		return datastore.Made{}, fault.New(fault.Unavailable, "its record names no disk yet; try again")
	}
	if m, err := p.find(ctx, v); !fault.Is(err, fault.NotFound) {
		return m, err
	}
	d, err := p.at(ctx, v.Location)
	if err != nil {
		return datastore.Made{}, err
	}
	f, err := p.claim(ctx, d)
	if err != nil {
		return datastore.Made{}, err
	}
	w := work{pool: p, file: f, bytes: d.bytes}
	defer func() { _ = w.file.Close() }() // what was written was flushed
	if w.header, w.size, err = p.begin(ctx, f, d, v, from); err != nil {
		return datastore.Made{}, err
	}
	switch {
	case from != nil:
		err = w.copy(ctx, v, *from, progress)
	case v.Filesystem != nil:
		err = w.format(ctx, v)
	default:
		err = w.zero(ctx, w.header.Done)
	}
	if err != nil {
		return datastore.Made{}, err
	}
	w.header.Phase, w.header.Done = diskMade, 0
	if err := writeHeader(ctx, w.file, w.size, &w.header); err != nil {
		return datastore.Made{}, err
	}
	return datastore.Made{Bytes: d.bytes, Location: d.name, Identity: d.name, Takes: d.bytes}, nil
}

// begin writes the header with which a disk is prepared for a volume, unless an earlier call did. It is read again here,
// while nobody else can claim the disk.
func (p *wholes) begin(ctx context.Context, f *os.File, d wholeDisk, v datastore.Volume, from *datastore.Volume) (diskHeader, int64, error) {
	size, _, err := geometry(f)
	if err != nil {
		return diskHeader{}, 0, err
	}
	h, ok, err := readHeader(f, size)
	clean := false
	switch {
	case err != nil:
		return h, size, err
	case ok && h.Phase == diskMaking && h.UID == v.UID && sameSource(mark{Source: h.Source}, from):
		return h, size, nil
	case ok && h.Phase == diskMaking && h.UID == v.UID:
	case ok && h.Phase == diskClean && h.Cluster == p.config.ClusterID && h.Datastore == p.name:
		clean = true
	case ok && h.Phase == diskWiping:
		return h, size, fault.New(fault.Busy, "disk %s is being wiped; try again", d.path)
	case ok:
		return h, size, fault.New(fault.Precondition, "disk %s bears the header of volume %s (%s); it is left alone", d.path, shorten(h.ID), h.Phase)
	default:
		if err := blank(ctx, p.tools.Command, f); err != nil {
			return h, size, fault.Wrap(err, "take disk", d.path)
		}
	}
	next := p.header(diskMaking, v)
	next.Serial, next.Clean, next.Bytes = h.Serial, clean, d.bytes
	if from != nil {
		next.Source = &origin{ID: from.ID, UID: from.UID}
	}
	err = writeHeader(ctx, f, size, &next)
	return next, size, err
}

func (p *wholes) header(phase headerPhase, v datastore.Volume) diskHeader {
	return diskHeader{
		Layout: layout, Phase: phase, Pool: p.uuid, Cluster: p.config.ClusterID, Datastore: p.name, ID: v.ID, UID: v.UID, Noted: p.tools.Now().UTC(),
	}
}

// work is a disk that is claimed and bears the header of what is done to it.
type work struct {
	pool        *wholes
	file        *os.File
	size, bytes int64
	header      diskHeader
}

// noting does work and notes in the header how far it is.
func (w *work) noting(ctx context.Context, do func(blockdev.Tell) error) error {
	noted := w.header.Done
	note := func(ctx context.Context) error {
		noted, w.header.Noted = w.header.Done, w.pool.tools.Now().UTC()
		return writeHeader(ctx, w.file, w.size, &w.header)
	}
	err := do(func(offset int64) error {
		w.header.Done = offset
		if offset < noted+noteEvery {
			return nil
		}
		return note(ctx)
	})
	if err != nil && ctx.Err() != nil && w.header.Done > noted {
		return errors.Join(err, note(context.WithoutCancel(ctx)))
	}
	return err
}

// zero makes the disk read as zeroes up to its header.
func (w *work) zero(ctx context.Context, from int64) error {
	if w.header.Clean {
		return nil
	}
	return w.noting(ctx, func(tell blockdev.Tell) error {
		return blockdev.Zero(ctx, w.file, min(from, w.size-tail), w.size-tail, tell)
	})
}

// format makes a file system on all of the disk but the part that its header is in. mkfs gets a partition that only the
// kernel knows, so that it can't reach the header.
func (w *work) format(ctx context.Context, v datastore.Volume) error {
	t, err := filesystem.ParseType(v.Filesystem.Type)
	if err != nil {
		return err
	}
	// mkfs claims its partition, which it can't while the disk is claimed.
	plain, err := blockdev.Open(file.PathForTool(w.file), blockdev.Mode{Write: true, Direct: true})
	if err != nil {
		return err
	}
	_ = w.file.Close() // what was written was flushed
	w.file = plain
	devices, err := gpt.Devices(w.file)
	if err != nil {
		return err
	}
	for _, d := range devices { // an earlier try's
		if err := gpt.Remove(ctx, w.file, d.Number); err != nil {
			return err
		}
	}
	const number = 1
	d, err := gpt.Add(ctx, w.file, number, gpt.Span{Bytes: (w.size - tail) / granularity * granularity})
	if err != nil {
		return err
	}
	err = w.formatPart(ctx, d, t, v)
	return errors.Join(err, gpt.Remove(context.WithoutCancel(ctx), w.file, number))
}

func (w *work) formatPart(ctx context.Context, d gpt.Device, t filesystem.Type, v datastore.Volume) error {
	held, err := blockdev.Open(d.Path, blockdev.Mode{Write: true})
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }() // what was written was flushed
	if err := filesystem.Erase(ctx, held); err != nil {
		return err
	}
	err = filesystem.Make(ctx, w.pool.tools.Command, file.PathForTool(held), filesystem.Format{
		Type: t, UUID: v.Filesystem.UUID, Options: v.Filesystem.MkfsOptions,
	})
	return fault.Wrap(err, "format", d.Path)
}

// copy copies another volume that nobody uses. The header lies where the end of a source as large would go.
func (w *work) copy(ctx context.Context, v, of datastore.Volume, progress datastore.Progress) error {
	source, err := w.pool.known(ctx, of)
	if err != nil {
		return fault.Wrap(err, "find the source", of.ID)
	}
	if source.bytes > w.size-tail {
		return fault.New(fault.OutOfRange, "the copy of a whole disk needs one that is %d bytes larger: its source %s has %d bytes, this has %d; copy into a datastore with larger disks",
			int64(tail), of.ID, source.bytes, w.size)
	}
	from, err := w.pool.claim(ctx, source)
	if err != nil {
		return fault.As(fault.Precondition, fault.New(fault.Precondition, "its source %s is in use, and type disk copies only what is not: %w", of.ID, err))
	}
	defer func() { _ = from.Close() }() // only read
	total := source.bytes
	progress(min(w.header.Done, total), total)
	err = w.noting(ctx, func(tell blockdev.Tell) error {
		return blockdev.Copy(ctx, blockdev.Copying{
			To: w.file, From: from, Start: min(w.header.Done, total), End: total, Zeroed: w.header.Clean,
			Tell: func(offset int64) error {
				progress(offset, total)
				return tell(offset)
			},
		})
	})
	switch {
	case err != nil:
		return err
	case v.Filesystem == nil:
		return w.zero(ctx, max(total, w.header.Done))
	case v.Filesystem.Type == string(filesystem.Btrfs):
		return filesystem.SetBtrfsUUID(ctx, w.pool.tools.Command, file.PathForTool(w.file), v.Filesystem.UUID)
	}
	return nil
}

// Snapshot is refused.
func (p *wholes) Snapshot(_ context.Context, _, snap datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	return datastore.Made{}, noSnapshots(snap, p.name)
}

// Expand has nothing to grow: a disk is as large as it is.
func (p *wholes) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	m, err := p.find(ctx, v)
	if err == nil && v.Bytes > m.Bytes {
		err = fault.New(fault.OutOfRange, "its disk has %d bytes, and %d are asked for; a whole disk can't grow", m.Bytes, v.Bytes)
	}
	return m, p.about(err, "expand", v)
}

// Open gives the disk itself, once it is proven to be the volume's. The header of its making goes now: its record says that
// it is made.
func (p *wholes) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	o, err := p.open(ctx, v, readOnly)
	return o, p.about(err, "open", v)
}

func (p *wholes) open(ctx context.Context, v datastore.Volume, readOnly bool) (is datastore.Opened, err error) {
	d, err := p.known(ctx, v)
	if err != nil {
		return is, err
	}
	if v.Identity == "" {
		return is, fault.New(fault.Unavailable, "its record doesn't say yet that it is made; try again")
	}
	if d.header != nil {
		f, err := p.claim(ctx, d)
		if err != nil {
			return is, err
		}
		size, _, err := geometry(f)
		if err == nil {
			err = eraseTail(ctx, f, size)
		}
		_ = f.Close() // what was written was flushed
		if err != nil {
			return is, err
		}
	}
	f, err := blockdev.Open(d.path, blockdev.Mode{})
	if err != nil {
		return is, fault.As(fault.Unavailable, err)
	}
	defer func() { _ = f.Close() }() // only read
	if now, err := instanceOf(f); err != nil || now != d.instance {
		return is, errors.Join(err, fault.New(fault.Unavailable, "disk %s was replaced meanwhile; try again", d.path))
	}
	size, sector, err := geometry(f)
	if err != nil {
		return is, err
	}
	is = datastore.Opened{Bytes: size, Identity: d.name}
	if readOnly {
		l, err := p.tools.Loop.Attach(ctx, f, loop.Options{ReadOnly: true, SectorSize: sector})
		is.Device, is.Bytes = l.Path, l.Bytes
		return is, err
	}
	is.Device, err = blockdev.Node(f)
	return is, err
}

// Close takes a reader's loop device away; the disk itself stays as it is.
func (p *wholes) Close(ctx context.Context, v datastore.Volume) error {
	d, err := p.known(ctx, v)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) || fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
		return nil // a disk that is gone isn't open
	}
	if err == nil {
		err = onNode(gpt.Device{Path: d.path}, func(f *os.File) error { return p.tools.Loop.Detach(ctx, f) })
	}
	return p.about(err, "close", v)
}

// InUse is what datastore.InUse asks.
func (p *wholes) InUse(ctx context.Context, v datastore.Volume) (bool, error) {
	d, err := p.known(ctx, v)
	if err != nil {
		return false, p.about(err, "look who uses", v)
	}
	used, err := p.uses(ctx, d)
	return used, p.about(err, "look who uses", v)
}

func (p *wholes) uses(ctx context.Context, d wholeDisk) (bool, error) {
	used, err := blockdev.InUse(d.path)
	if err != nil || used {
		return used, err
	}
	err = onNode(gpt.Device{Path: d.path}, func(f *os.File) (err error) {
		_, used, err = p.tools.Loop.Find(f, true)
		return err
	})
	if err != nil || used {
		return used, err
	}
	published, err := mount.New(mount.Config{}).OfNode(ctx, d.instance.major, d.instance.minor)
	return len(published) > 0, err
}

// Delete begins the wipe of a volume's disk by writing a header to its end, which the volume's bytes there don't survive.
func (p *wholes) Delete(ctx context.Context, v datastore.Volume, o datastore.Disposal) error {
	return p.about(p.delete(ctx, v, o), "delete", v)
}

func (p *wholes) delete(ctx context.Context, v datastore.Volume, o datastore.Disposal) error {
	if err := check(v, p.config.ClusterID); err != nil {
		return err
	}
	if v.Snapshot || v.Location == "" {
		return nil // nothing was ever touched for it
	}
	d, err := p.at(ctx, v.Location)
	if err != nil {
		return err
	}
	mine := d.header != nil && d.header.UID == v.UID && d.header.ID == v.ID
	switch {
	case mine && d.header.Phase == diskWiping, d.header == nil && v.Identity == "", d.header != nil && !mine:
		p.forget(d.name, v)
		return nil // wiped already, or nothing was ever written for it
	case d.header == nil && v.Identity != d.name:
		return fault.New(fault.Precondition, "disk %s is %s, the volume's was %s; it is left alone", d.path, d.name, shorten(v.Identity))
	}
	if err := onNode(gpt.Device{Path: d.path}, func(f *os.File) error { return p.tools.Loop.Detach(ctx, f) }); err != nil {
		return err
	}
	if used, err := p.uses(ctx, d); used || err != nil {
		return errors.Join(err, fault.New(fault.Precondition, "disk %s is in use: unmount it, and close whatever has it open", d.path))
	}
	if o.Policy == v1alpha1.RetainData || o.Policy == v1alpha1.ArchiveData {
		p.forget(d.name, v)
		return nil // it isn't blank, so that nobody takes it
	}
	f, err := p.claim(ctx, d)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what was written was flushed
	size, _, err := geometry(f)
	if err != nil {
		return err
	}
	h := p.header(diskWiping, v)
	h.Order = ordered(p.wipeOf(o.Wipe), "")
	if d.header != nil {
		h.Serial = d.header.Serial
	}
	if err := writeHeader(ctx, f, size, &h); err != nil {
		return err
	}
	p.forget(d.name, v)
	return nil
}

func (p *wholes) wipeOf(w v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	if w != v1alpha1.WipeDefault {
		return w
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return ordered(p.wipe, "")
}

// forget notes that a disk is no more that volume's.
func (p *wholes) forget(name string, v datastore.Volume) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places[name] == v.UID {
		delete(p.places, name)
	}
}

// Reclaim wipes disks whose volumes were deleted, resumably. What is left is clean, or blank.
func (p *wholes) Reclaim(ctx context.Context) error {
	select {
	case p.reclaiming <- struct{}{}:
		defer func() { <-p.reclaiming }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var errs []error
	for _, d := range p.lookAll(ctx) {
		if d.err == nil && d.header != nil && d.header.Phase == diskWiping {
			errs = append(errs, fault.Wrap(p.reclaim(ctx, d), "wipe disk", d.path))
		}
	}
	return errors.Join(errs...)
}

func (p *wholes) reclaim(ctx context.Context, d wholeDisk) error {
	f, err := p.claim(ctx, d)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what was written was flushed
	size, _, err := geometry(f)
	if err != nil {
		return err
	}
	h, ok, err := readHeader(f, size)
	if err != nil || !ok || h.Phase != diskWiping {
		return err
	}
	w := work{pool: p, file: f, size: size, bytes: d.bytes, header: h}
	if strength(h.Order) == 2 {
		if err := w.zero(ctx, h.Done); err != nil {
			return err
		}
		if err := blockdev.ZeroAll(ctx, f, []blockdev.Range{{Start: size - tail, End: size - 2*headerBytes}}); err != nil {
			return err
		}
		w.header.Phase, w.header.ID, w.header.UID, w.header.Done = diskClean, "", "", 0
		return writeHeader(ctx, w.file, size, &w.header)
	}
	if strength(h.Order) == 1 {
		if _, err := blockdev.Discard(ctx, f, 0, size-tail, func(int64) error { return nil }); err != nil {
			return err
		}
	}
	// Blank to every probe, which takes the header with it; a raw volume is zeroed when it is made.
	return filesystem.Erase(ctx, f)
}
