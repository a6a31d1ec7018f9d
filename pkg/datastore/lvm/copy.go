package lvm

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// temporary is the name of the snapshot that a copy of that name is read from. It bears a tag of ours and no mark.
func temporary(name string) string { return "t-" + name }

const temporaryTag = ours + "temporary="

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// Snapshot makes a thin snapshot or a copy-on-write snapshot, of one instant, by one call of lvm, whoever uses the volume:
// device-mapper brings a mounted file system to rest for that instant.
func (p *pool) Snapshot(ctx context.Context, of, snap datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	if !snap.Snapshot || of.Snapshot {
		return datastore.Made{}, p.about(fault.New(fault.Invalid, "a snapshot is made of a volume"), "snapshot", snap)
	}
	made, err := p.snapshot(ctx, of, snap)
	return made, p.about(err, "make", snap)
}

func (p *pool) snapshot(ctx context.Context, of, snap datastore.Volume) (datastore.Made, error) {
	for _, lack := range p.capabilities.Missing(snap) {
		return datastore.Made{}, fault.New(fault.Invalid, "%s", lack)
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return datastore.Made{}, err
	}
	old, err := p.find(vg, snap)
	if !fault.Is(err, fault.NotFound) {
		return old.mark.made(vg, old.LogicalVolume), err
	}
	source, err := p.find(vg, of)
	if err != nil {
		return datastore.Made{}, fault.Wrap(err, "find the source", of.ID)
	}
	if err := source.settled(vg); err != nil {
		return datastore.Made{}, err
	}
	if err := p.mayPromise(); err != nil {
		return datastore.Made{}, err
	}
	promised, err := p.SnapshotTakes(ctx, of, snap)
	if err != nil {
		return datastore.Made{}, err
	}
	m := mark{
		Volume: snap, TakenAt: p.tools.Now().UTC(), Promised: promised,
		Source: &datastore.Volume{ID: of.ID, UID: of.UID, ClusterID: of.ClusterID},
	}
	m.Bytes = source.Bytes
	if p.thinPool != "" {
		err = p.CreateThin(ctx, lvm.NewThin{Name: lvName(snap), Pool: p.thinPool, Origin: source.Name, ReadOnly: true, Tags: m.tags()})
	} else {
		err = p.SnapshotThick(ctx, lvName(snap), source.Name, promised, m.tags())
	}
	if err != nil {
		return datastore.Made{}, err
	}
	return p.recall(ctx, snap)
}

// FreezesItself is what datastore.FreezesItself asks: device-mapper freezes the file system on a volume while it is suspended, and lvcreate
// fails on one that is frozen already (EBUSY).
func (p *pool) FreezesItself() bool { return true }

// defaultSnapshotSize is the store of a copy-on-write snapshot where nobody says how large it is.
const defaultSnapshotSize = "20%"

// SnapshotTakes is what datastore.SnapshotTakes asks: the store of a copy-on-write snapshot, or what a thin volume has blocks for.
func (p *pool) SnapshotTakes(ctx context.Context, of, snap datastore.Volume) (int64, error) {
	vg, err := p.enter(ctx)
	if err != nil {
		return 0, err
	}
	source, err := p.find(vg, of)
	if err != nil {
		return 0, err
	}
	if p.thinPool != "" {
		return p.mapped(ctx, source.Name)
	}
	size := snap.SnapshotSize
	if size == "" {
		p.mu.Lock()
		size = v1alpha1.ShareOrBytes(p.spec.Defaults.SnapshotSize)
		p.mu.Unlock()
	}
	if size == "" {
		size = defaultSnapshotSize
	}
	bytes, _, err := size.Of(source.Bytes)
	// A store of as much as is overwritten also holds where that lies: 16 bytes for each chunk of 4 KiB, and a header
	// (drivers/md/dm-snap-persistent.c). So one of 100% never overflows.
	bytes += bytes/chunksPerArea + storeHeader
	return vg.RoundUp(bytes) * vg.ExtentSize, fault.As(fault.Invalid, err)
}

const (
	chunksPerArea = 256
	storeHeader   = 64 << 10
)

// mapped is how many bytes of a thin volume have blocks. The kernel only tells of one that is active: one that isn't is activated for that moment.
func (p *pool) mapped(ctx context.Context, name string) (int64, error) {
	p.activation.Lock()
	defer p.activation.Unlock()
	rest, err := p.borrow(ctx, name)
	if err != nil {
		return 0, err
	}
	vg, err := p.fresh(ctx)
	if err := errors.Join(err, rest()); err != nil {
		return 0, err
	}
	lv := vg.LVs[name]
	const hundredths = 10000 // the report has two digits behind the point, rounded
	return min(lv.Bytes, int64(float64(lv.Bytes)*(lv.DataPercent*100+1)/hundredths)), nil
}

// borrow activates a volume for a moment, or as long as its name is held by nobody else. The function that it returns deactivates what was not active
// before, and was not opened since: what was may be staged, also where nobody has it open, and another device would get its number. It
// is called with activation held.
func (p *pool) borrow(ctx context.Context, name string) (rest func() error, err error) {
	vg, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	if lv := vg.LVs[name]; lv.Kind == lvm.Snapshot {
		name = lv.Origin
	}
	_, _, err = lvm.FindDeviceNamed(vg.UUID, vg.Name, name)
	if err == nil {
		return func() error { return nil }, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if _, err := p.reach(ctx, name); err != nil {
		return nil, err
	}
	return func() error {
		p.mu.Lock()
		opened := p.attached[name]
		p.mu.Unlock()
		if opened {
			return nil
		}
		err := p.Group.Deactivate(ctx, name)
		if fault.Is(err, fault.Precondition) || fault.Is(err, fault.NotFound) { // it is in use by now, or gone
			return nil
		}
		return err
	}, nil
}

// copy makes a volume of what a source holds. A thin one shares its blocks; a thick one is read from a copy-on-write snapshot, and goes on
// where it was interrupted.
func (p *pool) copy(ctx context.Context, m mark, from datastore.Volume, progress datastore.Progress) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	source, err := p.find(vg, from)
	if err != nil {
		return fault.Wrap(err, "find the source", from.ID)
	}
	if err := errors.Join(checkCopy(m.Volume, source.mark), source.settled(vg)); err != nil {
		return err
	}
	if source.Health == lvm.Overflowed {
		return overflowed(vg, source.Name)
	}
	if source.mark.Snapshot && p.thinPool == "" && source.Kind != lvm.Snapshot {
		return fault.New(fault.NotFound, "snapshot %s/%s was split from its origin, as one is that is being deleted: what is in it is no picture of anything", vg.Name, source.Name)
	}
	m.Source = &datastore.Volume{ID: from.ID, UID: from.UID, ClusterID: from.ClusterID, Snapshot: from.Snapshot}
	if progress == nil {
		progress = func(_, _ int64) {}
	}
	if p.thinPool != "" {
		return p.cloneThin(ctx, vg, m, source)
	}
	return p.copyThick(ctx, vg, m, source, progress)
}

// settled refuses a source to which something was added that still shows what others left there.
func (i item) settled(vg *lvm.VolumeGroup) error {
	if i.HasTag(growingTag) {
		return fault.New(fault.Busy, "%s/%s grows, and what is added to it is not zeroed yet; try again", vg.Name, i.Name)
	}
	return nil
}

// checkCopy refuses copies that could never be used.
func checkCopy(v datastore.Volume, source mark) error {
	switch {
	case v.Access != source.Access:
		return fault.New(fault.Invalid, "access %q is asked for, its source %s is of access %q", v.Access, source.ID, source.Access)
	case fsType(v) != fsType(source.Volume):
		return fault.New(fault.Invalid, "file system %q is asked for, its source %s has %q", fsType(v), source.ID, fsType(source.Volume))
	case v.Bytes < source.Bytes:
		return fault.New(fault.OutOfRange, "%d bytes are asked for, its source %s has %d", v.Bytes, source.ID, source.Bytes)
	}
	return nil
}

// cloneThin makes a thin volume that shares all blocks of another: one call, unless something about it must differ.
func (p *pool) cloneThin(ctx context.Context, vg *lvm.VolumeGroup, m mark, source item) error {
	name := lvName(m.Volume)
	if _, there := vg.LVs[name]; there {
		if err := p.Remove(ctx, lvm.Removal{}, name); err != nil {
			return err
		}
	}
	n := lvm.NewThin{Name: name, Pool: p.thinPool, Origin: source.Name, Tags: m.tags()}
	larger, own := m.Bytes > source.Bytes, fsType(m.Volume) == string(filesystem.Btrfs)
	if !larger && !own {
		return p.CreateThin(ctx, n)
	}
	n.Tags, n.Active = append(n.Tags, makingTag), own
	if err := p.CreateThin(ctx, n); err != nil {
		return err
	}
	if larger {
		if err := p.Extend(ctx, name, m.Bytes, nil); err != nil {
			return err
		}
	}
	if own {
		if err := p.ownUUID(ctx, name, m); err != nil {
			return err
		}
	}
	return p.finish(ctx, name)
}

// ownUUID gives a copy of btrfs the UUID of its record: the kernel takes two of one UUID for one file system.
func (p *pool) ownUUID(ctx context.Context, name string, m mark) error {
	d, err := p.reach(ctx, name)
	if err != nil {
		return err
	}
	return filesystem.SetBtrfsUUID(ctx, p.tools.Command, d.Path, m.Filesystem.UUID)
}

// copyThick copies all bytes of a source, from a snapshot of it.
func (p *pool) copyThick(ctx context.Context, vg *lvm.VolumeGroup, m mark, source item, progress datastore.Progress) error {
	name, read := lvName(m.Volume), source.Name
	target, begun := vg.LVs[name]
	if old, err := readMark(target.Tags); begun && (err != nil || old.Source == nil || *sourceKey(old) != *sourceKey(m)) {
		if err := p.scrap(ctx, target, p.wipeOf(m.Wipe)); err != nil {
			return err
		}
		return fault.New(fault.Unavailable, "what an earlier try has begun is no copy of %s; it is made anew with the next one", source.mark.ID)
	}
	if !source.mark.Snapshot {
		read = temporary(name)
		left, there := vg.LVs[read]
		if there && !p.reads(left, source.Name) {
			var err error
			if begun {
				err = p.scrap(ctx, target, p.wipeOf(m.Wipe))
			}
			return errors.Join(err, fault.New(fault.Busy, "%s/%s, which an earlier try was copied from, is being removed; try again", vg.Name, read))
		}
		if begun && !there { // of another instant
			if err := p.scrap(ctx, target, p.wipeOf(m.Wipe)); err != nil {
				return err
			}
			return fault.New(fault.Unavailable, "the snapshot that it was copied from is gone; it is copied anew with the next try")
		}
		if !there {
			if err := p.takeTemporary(ctx, vg, name, source); err != nil {
				return err
			}
		}
	}
	if !begun {
		if _, err := p.carve(ctx, m, []string{atTag + "0", since(p.tools.Now())}); err != nil {
			return errors.Join(err, p.dropTemporary(ctx, name))
		}
	}
	rest, err := p.borrow(ctx, read)
	if err != nil {
		return err
	}
	giveBack := func() error {
		p.activation.Lock()
		defer p.activation.Unlock()
		return rest()
	}
	err = p.transfer(ctx, name, read, m, progress)
	if err == nil && fsType(m.Volume) == string(filesystem.Btrfs) {
		err = p.ownUUID(ctx, name, m)
	}
	if ctx.Err() == nil {
		err = errors.Join(p.intact(ctx, read, source.mark.Snapshot), err)
	}
	if err == nil {
		err = p.finish(ctx, name)
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, giveBack()) // it goes on
	}
	return errors.Join(err, p.dropTemporary(ctx, name), giveBack())
}

// sourceKey is what a copy's source is known by.
func sourceKey(m mark) *[2]string { return &[2]string{m.Source.Key(), m.Source.UID} }

// takeTemporary makes the snapshot that a copy is read from, whose source may be written to meanwhile: with as large a store as a snapshot has.
func (p *pool) takeTemporary(ctx context.Context, vg *lvm.VolumeGroup, name string, source item) error {
	store, err := p.SnapshotTakes(ctx, source.mark.Volume, datastore.Volume{})
	if err != nil {
		return err
	}
	// The copy itself must still fit.
	room := vg.FreeBytes() - vg.RoundUp(source.Bytes)*vg.ExtentSize
	store = min(store, max(room/vg.ExtentSize*vg.ExtentSize, vg.ExtentSize))
	return p.SnapshotThick(ctx, temporary(name), source.Name, store, []string{temporaryTag + p.marker.Pool})
}

// reads tells whether a volume is the snapshot of a source that a copy is to be read from. What an earlier try gave up bears its name until
// Reclaim has removed it: the store that was split off, which holds no picture of anything.
func (p *pool) reads(lv lvm.LogicalVolume, source string) bool {
	return lv.Kind == lvm.Snapshot && lv.Origin == source && lv.HasTag(temporaryTag+p.marker.Pool) && stateOf(lv.Tags) != remains
}

// dropTemporary removes the snapshot that a copy was read from.
func (p *pool) dropTemporary(ctx context.Context, name string) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	lv, there := vg.LVs[temporary(name)]
	if !there || !lv.HasTag(temporaryTag+p.marker.Pool) || stateOf(lv.Tags) == remains {
		return nil
	}
	return p.scrap(ctx, lv, p.wipeOf(v1alpha1.WipeDefault))
}

// dropTemporaries removes those of copies that nobody goes on with.
func (p *pool) dropTemporaries(ctx context.Context) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(keys(vg.LVs)) {
		lv := vg.LVs[name]
		copied, ok := cutTemporary(name)
		if !ok || !lv.HasTag(temporaryTag+p.marker.Pool) || stateOf(lv.Tags) == remains || p.worksOn(copied) {
			continue
		}
		if target, there := vg.LVs[copied]; there && stateOf(target.Tags) == making {
			continue
		}
		errs = append(errs, p.dropTemporary(ctx, copied))
	}
	return errors.Join(errs...)
}

func cutTemporary(name string) (string, bool) {
	const length = len("t-")
	if len(name) <= length || name[:length] != temporary("") {
		return "", false
	}
	return name[length:], true
}

// transfer copies from one volume to another, from where an earlier call came to.
func (p *pool) transfer(ctx context.Context, to, from string, m mark, progress datastore.Progress) error {
	source, err := p.reach(ctx, from)
	if err != nil {
		return err
	}
	target, err := p.reach(ctx, to)
	if err != nil {
		return err
	}
	in, err := blockdev.Open(source.Path, blockdev.Mode{})
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it is only read
	total, err := blockdev.SizeOf(in)
	if err != nil {
		return err
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	at := number(vg.LVs[to].Tags, atTag)
	progress(min(at, total), total)
	note := p.note(ctx, to)
	return p.withDevice(target, func(out *os.File) error {
		if at < total {
			if err := blockdev.Copy(ctx, blockdev.Copying{To: out, From: in, Start: at, End: total, Tell: func(offset int64) error {
				progress(offset, total)
				return note(offset)
			}}); err != nil {
				return err
			}
		}
		size, err := blockdev.SizeOf(out)
		if err != nil || m.Filesystem != nil || size <= total {
			return err // what is behind the source's end is for its file system to take
		}
		return blockdev.Zero(ctx, out, max(at, total), size, note)
	})
}

// intact makes sure that a snapshot, or one that was made only to be read, has lost nothing while it was read.
func (p *pool) intact(ctx context.Context, name string, lasting bool) error {
	vg, err := p.fresh(ctx)
	if err != nil {
		return err
	}
	switch lv, there := vg.LVs[name]; {
	case there && lv.Kind != lvm.Snapshot:
		return fault.New(fault.NotFound, "snapshot %s/%s was deleted while it was copied", vg.Name, name)
	case there && lv.Health != lvm.Overflowed:
		return nil
	case lasting:
		return overflowed(vg, name)
	}
	return fault.New(fault.Unavailable, "so much of the volume was overwritten while it was copied that its snapshot %s/%s has overflowed; "+
		"try again while less is written, or with more free space in the group", vg.Name, name)
}

func overflowed(vg *lvm.VolumeGroup, name string) error {
	return fault.New(fault.DataLoss, "snapshot %s/%s has overflowed: more of its volume was overwritten than its store could hold, so what it held is lost; "+
		"delete it, and make the next one with a larger snapshotSize", vg.Name, name)
}

// progressTag is how far a copy is, in bytes.
func progressTag(offset int64) string { return atTag + strconv.FormatInt(offset, 10) }
