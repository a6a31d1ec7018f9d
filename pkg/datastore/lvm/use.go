package lvm

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// Open activates the volume, and nothing else but the thin pool that it lies in.
func (p *pool) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	opened, err := p.attach(ctx, v)
	if err == nil && readOnly {
		opened, err = p.protect(ctx, opened)
	}
	return opened, p.about(err, "open", v)
}

func (p *pool) attach(ctx context.Context, v datastore.Volume) (datastore.Opened, error) {
	if v.Snapshot {
		return datastore.Opened{}, fault.New(fault.Invalid, "a snapshot is never opened; make a volume from it")
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return datastore.Opened{}, err
	}
	i, err := p.find(vg, v)
	if err != nil {
		return datastore.Opened{}, err
	}
	if i.HasTag(growingTag) {
		if err := p.endGrowth(ctx, i.Name); err != nil {
			return datastore.Opened{}, err
		}
	}
	p.activation.Lock()
	d, err := p.reach(ctx, i.Name)
	if err == nil {
		p.holdActive(i.Name)
	}
	p.activation.Unlock()
	if err != nil {
		return datastore.Opened{}, p.whyNot(ctx, i, err)
	}
	size, err := blockdev.Size(d.Path)
	if err == nil && size < i.Bytes {
		err = fault.New(fault.Unavailable, "device %s has %d bytes, logical volume %s/%s has %d", d.Path, size, vg.Name, i.Name, i.Bytes)
	}
	return datastore.Opened{Device: d.Path, Bytes: size, Identity: i.mark.UID, Discard: p.thinPool != ""}, err
}

// protect puts a loop device that takes no writes on a volume's device, for a consumer who may only read: others may write
// meanwhile.
func (p *pool) protect(ctx context.Context, o datastore.Opened) (datastore.Opened, error) {
	err := onNode(o.Device, func(f *os.File) error {
		sector, err := blockdev.SectorSizeOf(f)
		if err != nil {
			return err
		}
		l, err := p.tools.Loop.Attach(ctx, f, loop.Options{ReadOnly: true, SectorSize: sector})
		o.Device, o.Bytes, o.Discard = l.Path, l.Bytes, false
		return err
	})
	return o, err
}

// onNode does something with a device's open node.
func onNode(path string, do func(*os.File) error) error {
	f, err := blockdev.Open(path, blockdev.Mode{})
	if err != nil {
		return fault.As(fault.Unavailable, err)
	}
	defer func() { _ = f.Close() }() // only read
	return do(f)
}

// whyNot says why a volume can't be used, where its storage tells.
func (p *pool) whyNot(ctx context.Context, i item, err error) error {
	vg, looked := p.fresh(ctx)
	if looked != nil {
		return errors.Join(err, looked)
	}
	for _, problem := range problems(vg, vg.LVs[i.Name], i.mark) {
		return fault.New(fault.Unavailable, "%s: %w", problem.Message, err)
	}
	return err
}

// Close deactivates the volume. One that is still in use stays as it is.
func (p *pool) Close(ctx context.Context, v datastore.Volume) error {
	return p.about(p.detach(ctx, v), "close", v)
}

func (p *pool) detach(ctx context.Context, v datastore.Volume) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	i, err := p.lookUp(vg, v)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) {
		return nil // what isn't the volume isn't open as one
	}
	if err != nil {
		return err
	}
	d, err := p.bare(ctx, vg, i.Name)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && d.Opens > 0:
		return nil
	case err != nil:
		return err
	}
	err = p.Group.Deactivate(ctx, i.Name)
	if fault.Is(err, fault.Precondition) { // somebody was faster
		return nil
	}
	if err == nil {
		p.mu.Lock()
		delete(p.attached, i.Name)
		p.mu.Unlock()
	}
	return err
}

// holdActive keeps a volume that was opened active until it is closed: a raw one may be published, and not be open at the moment.
func (p *pool) holdActive(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached[name] = true
}

// bare is a volume's active device once no loop device of ours that nobody uses is on it. One that is not active is fault.NotFound.
func (p *pool) bare(ctx context.Context, vg *lvm.VolumeGroup, name string) (lvm.Device, error) {
	d, _, err := lvm.FindDeviceNamed(vg.UUID, vg.Name, name)
	if err != nil || d.Opens == 0 {
		return d, err
	}
	if err := onNode(d.Path, func(f *os.File) error { return p.tools.Loop.Detach(ctx, f) }); err != nil {
		return d, err
	}
	d, _, err = lvm.FindDeviceNamed(vg.UUID, vg.Name, name)
	return d, err
}

// InUse is what datastore.InUse asks.
func (p *pool) InUse(ctx context.Context, v datastore.Volume) (bool, error) {
	used, err := p.inUse(ctx, v)
	return used, p.about(err, "look who uses", v)
}

func (p *pool) inUse(ctx context.Context, v datastore.Volume) (bool, error) {
	vg, err := p.enter(ctx)
	if err != nil {
		return false, err
	}
	i, err := p.find(vg, v)
	if err != nil {
		return false, err
	}
	d, _, err := lvm.FindDeviceNamed(vg.UUID, vg.Name, i.Name)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil || d.Opens > 0 {
		return d.Opens > 0, err
	}
	// A raw volume may be published, and not be open at the moment.
	major, minor, err := blockdev.Number(d.Path)
	if err != nil {
		return false, err
	}
	published, err := mount.New(mount.Config{}).OfNode(ctx, major, minor)
	return len(published) > 0, err
}

// Find reads the volume's mark.
func (p *pool) Find(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	made, err := p.recall(ctx, v)
	return made, p.about(err, "find", v)
}

// Expand grows the volume, and then has its mark say so.
func (p *pool) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	made, err := p.expand(ctx, v)
	return made, p.about(err, "expand", v)
}

func (p *pool) expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	if v.Snapshot {
		return datastore.Made{}, fault.New(fault.Invalid, "a snapshot never grows; make a larger volume from it")
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return datastore.Made{}, err
	}
	i, err := p.find(vg, v)
	if err != nil {
		return datastore.Made{}, err
	}
	if i.HasTag(growingTag) {
		if err := p.endGrowth(ctx, i.Name); err != nil {
			return datastore.Made{}, err
		}
	}
	if more := vg.RoundUp(v.Bytes) - vg.RoundUp(i.Bytes); more > 0 {
		if err := p.mayPromise(); err != nil {
			return datastore.Made{}, err
		}
		if err := p.grow(ctx, i, v.Bytes, more); err != nil {
			return datastore.Made{}, err
		}
	}
	m := i.mark
	m.Bytes, m.OnDelete, m.Wipe = max(m.Bytes, v.Bytes), v.OnDelete, v.Wipe
	if err := p.Retag(ctx, lvm.Retag{Name: i.Name, Add: m.tags(), Remove: without(having(i.Tags, markTag), m.tags())}); err != nil {
		return datastore.Made{}, err
	}
	return p.recall(ctx, v)
}

// grow adds extents. Those of a raw volume read as zeroes before they are its own: somebody may read it.
func (p *pool) grow(ctx context.Context, i item, bytes, more int64) error {
	if i.Kind == lvm.Thin || i.mark.Filesystem != nil || p.mayShow() {
		return p.Extend(ctx, i.Name, bytes, nil)
	}
	if i.Kind != lvm.Linear {
		return p.growWide(ctx, i, bytes)
	}
	return p.named(ctx, func() error {
		on, done, err := p.zeroes(ctx, i.Name, more)
		if err != nil {
			return err
		}
		defer done()
		return p.Extend(ctx, i.Name, bytes, on)
	})
}

// growWide grows a raw volume that lies on several devices, by extents that LVM chooses: it must not be in use while they are zeroed.
func (p *pool) growWide(ctx context.Context, i item, bytes int64) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	if d, _, err := lvm.FindDeviceNamed(vg.UUID, vg.Name, i.Name); err == nil && d.Opens > 0 {
		return fault.New(fault.Precondition, "%s/%s is a raw volume of type %s: it grows only while it is not in use, since what is added is zeroed first",
			vg.Name, i.Name, i.Segment)
	}
	// Whole again when it is zeroed; how far that is stands in its tags.
	if err := p.Retag(ctx, lvm.Retag{Name: i.Name, Add: []string{growingTag, progressTag(i.Bytes)}}); err != nil {
		return err
	}
	err = p.Extend(ctx, i.Name, bytes, nil)
	// A call of lvm that failed may have grown it all the same: what it got is zeroed in any case.
	return errors.Join(err, p.endGrowth(ctx, i.Name))
}

// endGrowth zeroes what was added to a raw volume, from where an earlier call came to.
func (p *pool) endGrowth(ctx context.Context, name string) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	if number(vg.LVs[name].Tags, atTag) == 0 {
		return fault.New(fault.Precondition, "%s/%s bears the tag %s and none that says from where on it is to be zeroed (%s...); nothing was zeroed: "+
			"if what was added to it reads as zeroes, take the tag off", vg.Name, name, growingTag, atTag)
	}
	if err := p.zero(ctx, name, 0); err != nil {
		return err
	}
	return p.whole(ctx, name, false) // it may be staged
}

// without are the tags that are not to be kept.
func without(tags, keep []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(keep, t) })
}
