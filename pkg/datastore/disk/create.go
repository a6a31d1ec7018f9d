package disk

import (
	"context"
	"errors"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// Create carves a partition, whose mark says Making until it is zeroed, or copied, and formatted.
func (p *pool) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if progress == nil {
		progress = func(_, _ int64) {}
	}
	m, err := p.create(ctx, v, from, progress)
	return m, p.about(err, "create", v)
}

func (p *pool) create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if err := p.checkNew(v); err != nil {
		return datastore.Made{}, err
	}
	defer p.begin(v)()
	is, err := p.recall(ctx, v)
	if !fault.Is(err, fault.NotFound) {
		return is, err
	}
	var source mark
	if from != nil {
		if source, err = p.source(ctx, v, *from); err != nil {
			return datastore.Made{}, err
		}
	}
	if err := p.carve(ctx, v, from, source); err != nil {
		return datastore.Made{}, err
	}
	part, err := p.prepare(ctx, v)
	if err != nil {
		return datastore.Made{}, err
	}
	err = p.fill(ctx, v, part, from, progress)
	if err = errors.Join(err, part.close()); err != nil {
		return datastore.Made{}, err
	}
	return p.finish(ctx, v)
}

// checkNew refuses what can't be made.
func (p *pool) checkNew(v datastore.Volume) error {
	if err := check(v, p.config.ClusterID); err != nil {
		return err
	}
	return lacking(p.capabilities, v)
}

// lacking refuses what volumes of this type can't be.
func lacking(c datastore.Capabilities, v datastore.Volume) error {
	for _, lack := range c.Missing(v) {
		return fault.New(fault.Invalid, "%s", lack)
	}
	fsType := ""
	if v.Filesystem != nil {
		fsType = v.Filesystem.Type
	}
	if least := minBytes(fsType); v.Bytes < least {
		return fault.New(fault.Invalid, "%d bytes are too few for it, the least is %d", v.Bytes, least)
	}
	return nil
}

// Find returns what Create made.
func (p *pool) Find(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	m, err := p.recall(ctx, v)
	return m, p.about(err, "find", v)
}

func (p *pool) recall(ctx context.Context, v datastore.Volume) (is datastore.Made, err error) {
	if v.Snapshot {
		return is, fault.New(fault.NotFound, "there are no snapshots on type disk")
	}
	err = p.on(ctx, v, false, func(o opened, _ int, k mark) error {
		if !k.there() {
			return fault.New(fault.NotFound, "it is %s only", k.Phase)
		}
		is = made(o.guid, k)
		return nil
	})
	return is, err
}

// carve takes a place for a volume and marks it, unless an earlier call did. What an earlier call took for another size is
// given up.
func (p *pool) carve(ctx context.Context, v datastore.Volume, from *datastore.Volume, source mark) error {
	bytes := max(roundUp(v.Bytes), source.Bytes)
	known := false
	err := p.on(ctx, v, true, func(o opened, n int, k mark) error {
		switch {
		case k.Phase == remainder:
			return fault.New(fault.Busy, "what an earlier try left of it is being wiped; try again")
		case k.Bytes == bytes && sameSource(k, from):
			known = true
			return nil
		}
		return o.giveUp(ctx, n, k, v1alpha1.WipeDefault)
	})
	if known || err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil {
		return fault.New(fault.Busy, "what an earlier try left of it is being wiped; try again")
	}
	k := markOf(v, gpt.Span{Bytes: bytes})
	if from != nil {
		k.Source = &origin{ID: from.ID, UID: from.UID}
		// It holds the source's bytes, also where it is given up half way.
		k.Order = strongest(p.wipeOf(from.Wipe), p.wipeOf(source.Wipe))
		if source.Order != "" {
			k.Order = strongest(k.Order, source.Order)
		}
	}
	at, k, err := p.reserve(k)
	if err != nil {
		return err
	}
	return p.with(ctx, at.member, true, func(o opened) error {
		if err := p.confirm(at, k); err != nil {
			return err
		}
		err := o.note(ctx, at.number, k)
		if err != nil {
			p.unreserve(at, k)
		}
		return err
	})
}

func sameSource(k mark, from *datastore.Volume) bool {
	if from == nil || k.Source == nil {
		return from == nil && k.Source == nil
	}
	return *k.Source == origin{ID: from.ID, UID: from.UID}
}

// wipeOf is what is to be done to a volume's bytes at its end, as far as is known before.
func (p *pool) wipeOf(w v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	if w != v1alpha1.WipeDefault {
		return w
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return ordered(p.defaultWipe, "")
}

// reserve chooses the best place for a mark on the disks that are there, and keeps others off it before the mark is
// written.
func (p *pool) reserve(k mark) (place, mark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best place
	var where gpt.Span
	least, largest, full := int64(-1), int64(0), error(nil)
	for _, m := range p.sorted() {
		if !m.present() {
			continue
		}
		free := m.free()
		for _, f := range free {
			largest = max(largest, f.Bytes)
		}
		s, ok := gpt.Fit(free, k.Bytes)
		if !ok {
			continue
		}
		n, err := m.table.Unused(func(n int) bool { return m.entries[n].mark != nil || m.entries[n].err != nil })
		if err != nil {
			full = fault.Wrap(err, "use disk", m.path)
			continue
		}
		for _, f := range free {
			if f.Start == s.Start && (least < 0 || f.Bytes < least) {
				best, where, least = place{m, n}, s, f.Bytes
			}
		}
	}
	switch {
	case least >= 0:
	case full != nil:
		return place{}, mark{}, full
	default:
		return place{}, mark{}, fault.New(fault.Exhausted, "%d bytes are needed in one piece, the largest free piece on the disks that are there has %d", k.Bytes, largest)
	}
	k.Span, k.Clean = where, best.member.clean(where)
	best.member.entries[best.number].mark = &k
	return best, k, nil
}

// confirm is an error where the disk was read anew since a place was reserved, so that the reservation is lost.
func (p *pool) confirm(at place, k mark) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := at.member.entries[at.number].mark; now == nil || now.Partition != k.Partition {
		return fault.New(fault.Unavailable, "disk %s has changed meanwhile; try again", at.member.path)
	}
	return nil
}

func (p *pool) unreserve(at place, k mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := at.member.entries[at.number].mark; now != nil && now.Partition == k.Partition {
		at.member.entries[at.number].mark = nil
	}
}

// part is a partition that is open for writing, and that nobody else can mount or claim.
type part struct {
	device gpt.Device
	file   *os.File
	k      mark
}

// close lets go of the device; again is success.
func (t part) close() error {
	err := t.file.Close()
	if err == nil || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return fault.New(fault.Unavailable, "close %s: %w", t.device.Path, err)
}

// prepare brings a volume that is being made into the table and to the kernel, and claims its device.
func (p *pool) prepare(ctx context.Context, v datastore.Volume) (part, error) {
	var out part
	err := p.on(ctx, v, true, func(o opened, n int, k mark) (err error) {
		if k.Phase != making {
			return fault.New(fault.Busy, "it is %s by now; try again", k.Phase)
		}
		if err := o.enter(ctx, n, k); err != nil {
			return err
		}
		out, err = o.claim(ctx, n, k, true)
		return err
	})
	return out, err
}

// enter sees to it that a mark's partition is in the table. Another one under its number is fault.Precondition.
func (o opened) enter(ctx context.Context, n int, k mark) error {
	now := o.partition(n)
	if now.Used() {
		return o.matches(n, k)
	}
	return o.change(ctx, func(t *gpt.Table) {
		id := gpt.MustParse(k.Partition) // parsed with the mark
		t.Partitions[n-1] = t.Placed(gpt.Partition{Type: volumeType(), ID: id}, k.Span).Named(k.volume().BackendName())
	})
}

// matches is an error where the table has something else in the place of a mark's partition.
func (o opened) matches(n int, k mark) error {
	now := o.partition(n)
	if !now.Used() {
		return fault.New(fault.DataLoss, "partition %d of %s is no more in its table; its bytes were %d to %d of the disk: put the entry back with the GUID %s, "+
			"or restore the volume from a backup", n, o.file.Name(), k.Span.Start, k.Span.End(), k.Partition)
	}
	o.pool.mu.Lock()
	is := o.table.Span(now)
	o.pool.mu.Unlock()
	switch {
	case now.ID.String() != k.Partition:
		return fault.New(fault.Precondition, "partition %d of %s has the GUID %s, the volume's has %s: it is another one and left alone", n, o.file.Name(), now.ID, k.Partition)
	case is.Start != k.Span.Start || is.Bytes < k.Span.Bytes:
		return fault.New(fault.Precondition, "partition %d of %s has bytes %d to %d of the disk, the volume's had %d to %d: somebody changed it; it is left alone",
			n, o.file.Name(), is.Start, is.End(), k.Span.Start, k.Span.End())
	}
	return nil
}

// claim tells the kernel of a mark's partition, opens it, and makes sure that it is as large as the mark says.
func (o opened) claim(ctx context.Context, n int, k mark, write bool) (part, error) {
	d, err := o.attach(ctx, n, k)
	if err != nil {
		return part{}, err
	}
	f, err := command.Await(ctx, o.pool.tools.Command, "claim "+d.Path, func(context.Context) (*os.File, error) {
		return blockdev.Open(d.Path, blockdev.Mode{Write: write, Exclusive: true})
	})
	if err != nil {
		return part{}, err
	}
	major, minor, err := blockdev.NumberOf(f)
	if err == nil && (major != d.Major || minor != d.Minor) {
		err = fault.New(fault.Precondition, "%s was replaced while it was opened; it is left alone", d.Path)
	}
	if err == nil && write {
		err = blockdev.SetReadOnly(ctx, f, false)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return part{}, err
	}
	return part{d, f, k}, nil
}

// attach tells the kernel of a mark's partition.
func (o opened) attach(ctx context.Context, n int, k mark) (gpt.Device, error) {
	if err := o.matches(n, k); err != nil {
		return gpt.Device{}, err
	}
	o.pool.mu.Lock()
	span := o.table.Span(o.table.Partitions[n-1])
	o.pool.mu.Unlock()
	return gpt.Add(ctx, o.file, n, span)
}

// fill makes the content of a volume: the bytes of another one, or zeroes, and a file system.
func (p *pool) fill(ctx context.Context, v datastore.Volume, to part, from *datastore.Volume, progress datastore.Progress) error {
	if from != nil {
		return p.copy(ctx, v, to, *from, progress)
	}
	if v.Filesystem == nil {
		return p.zero(ctx, v, to, to.k.Done)
	}
	if err := filesystem.Erase(ctx, to.file); err != nil {
		return err
	}
	t, err := filesystem.ParseType(v.Filesystem.Type)
	if err != nil {
		return err
	}
	// mkfs claims the device itself; what is open stays the device all the same.
	held, err := blockdev.Open(file.PathForTool(to.file), blockdev.Mode{})
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }() // only read
	if err := to.close(); err != nil {
		return err
	}
	err = filesystem.Make(ctx, p.tools.Command, file.PathForTool(held), filesystem.Format{
		Type: t, UUID: v.Filesystem.UUID, Options: v.Filesystem.MkfsOptions,
	})
	return fault.Wrap(err, "format", to.device.Path)
}

// zero makes a volume read as zeroes from an offset on, unless its space is known to.
func (p *pool) zero(ctx context.Context, v datastore.Volume, to part, from int64) error {
	if to.k.Clean {
		return nil
	}
	return p.noting(ctx, v, making, func(tell blockdev.Tell) error {
		return blockdev.Zero(ctx, to.file, from, to.k.Bytes, tell)
	})
}

// noteEvery is how much work goes by between two notes of how far it is, in bytes.
const noteEvery = 1 << 30

// noting does work on a volume and notes in its mark how far it is, now and then and where the work is cut off.
func (p *pool) noting(ctx context.Context, v datastore.Volume, in phase, work func(blockdev.Tell) error) error {
	var done, noted int64
	note := func(ctx context.Context) error {
		return p.on(ctx, v, true, func(o opened, n int, k mark) error {
			if k.Phase != in {
				return fault.New(fault.Busy, "it is %s by now; try again", k.Phase)
			}
			k.Done, k.Noted = done, p.tools.Now().UTC()
			return o.note(ctx, n, k)
		})
	}
	err := work(func(offset int64) error {
		done = offset
		if done < noted+noteEvery {
			return nil
		}
		noted = done
		return note(ctx)
	})
	if err != nil && ctx.Err() != nil && done > noted {
		return errors.Join(err, note(context.WithoutCancel(ctx)))
	}
	return err
}

// finish says in the mark that a volume is whole, and lets the kernel forget it until it is opened.
func (p *pool) finish(ctx context.Context, v datastore.Volume) (is datastore.Made, err error) {
	err = p.on(ctx, v, true, func(o opened, n int, k mark) error {
		if k.Phase != making {
			return fault.New(fault.Busy, "it is %s by now; try again", k.Phase)
		}
		k.Phase, k.Done, k.Clean, k.Noted = ready, 0, false, p.tools.Now().UTC()
		if err := o.note(ctx, n, k); err != nil {
			return err
		}
		is = made(o.guid, k)
		return ignoreUse(gpt.Remove(ctx, o.file, n))
	})
	return is, err
}

// ignoreUse takes an error of somebody who looks at a device for none: the kernel keeps a partition until it is closed
// or deleted.
func ignoreUse(err error) error {
	if fault.Is(err, fault.Precondition) {
		return nil
	}
	return err
}
