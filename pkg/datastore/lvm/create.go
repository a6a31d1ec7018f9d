package lvm

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// Create makes the volume, as one call of lvm where nothing has to be written to it; else it bears a tag that says so until it is whole.
func (p *pool) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	made, err := p.create(ctx, v, from, progress)
	return made, p.about(err, "create", v)
}

func (p *pool) create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	for _, lack := range p.capabilities.Missing(v) {
		return datastore.Made{}, fault.New(fault.Invalid, "%s", lack)
	}
	if least := minBytes(fsType(v)); v.Bytes < least {
		return datastore.Made{}, fault.New(fault.Invalid, "%d bytes are too few for it, the least is %d", v.Bytes, least)
	}
	// Before it is looked at: Reclaim takes out of use what nobody works on.
	if !p.claim(lvName(v)) {
		return datastore.Made{}, fault.New(fault.Busy, "another call makes it, or clears away what an earlier one left of it; try again")
	}
	defer p.unclaim(lvName(v))
	vg, err := p.enter(ctx)
	if err != nil {
		return datastore.Made{}, err
	}
	old, err := p.lookUp(vg, v)
	switch {
	case err == nil && old.state == remains:
		return datastore.Made{}, fault.New(fault.Busy, "%s/%s is being removed", vg.Name, old.Name)
	case err == nil && old.state != making:
		return old.mark.made(vg, old.LogicalVolume), nil
	case err != nil && !fault.Is(err, fault.NotFound):
		return datastore.Made{}, err
	}
	if err := p.mayPromise(); err != nil {
		return datastore.Made{}, err
	}
	m := mark{Volume: v}
	if from != nil {
		err = p.copy(ctx, m, *from, progress)
	} else {
		err = p.make(ctx, m)
	}
	if err != nil {
		return datastore.Made{}, p.giveUp(ctx, v, err)
	}
	return p.recall(ctx, v)
}

// recall returns what was made.
func (p *pool) recall(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	vg, err := p.enter(ctx)
	if err != nil {
		return datastore.Made{}, err
	}
	i, err := p.find(vg, v)
	if err != nil {
		return datastore.Made{}, err
	}
	return i.mark.made(vg, i.LogicalVolume), nil
}

// giveUp gives back what a creation that failed has taken. A copy whose context ended goes on with the next call.
func (p *pool) giveUp(ctx context.Context, v datastore.Volume, why error) error {
	if ctx.Err() != nil {
		return why
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return errors.Join(why, err)
	}
	i, err := p.lookUp(vg, v)
	if err != nil || i.state != making {
		return why
	}
	return errors.Join(why, p.scrap(ctx, i.LogicalVolume, p.wipeOf(v.Wipe)))
}

// mayPromise refuses where a thin pool can't take anything new.
func (p *pool) mayPromise() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full
}

func fsType(v datastore.Volume) string {
	if v.Filesystem == nil {
		return ""
	}
	return v.Filesystem.Type
}

// make makes an empty volume. One that an earlier call has begun is removed first, but for one that is being zeroed, which takes its time.
func (p *pool) make(ctx context.Context, m mark) error {
	name := lvName(m.Volume)
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	old, there := vg.LVs[name]
	if there && (p.thinPool != "" || m.Filesystem != nil || len(having(old.Tags, atTag)) == 0) {
		if err := p.Remove(ctx, lvm.Removal{}, name); err != nil {
			return err
		}
		there = false
	}
	switch {
	case p.thinPool != "":
		return p.makeThin(ctx, m)
	case m.Filesystem == nil && p.mayShow() && !there:
		return p.Group.Create(ctx, lvm.NewVolume{Name: name, Bytes: m.Bytes, Shape: p.shape(m.Volume, vg), Tags: m.tags()})
	case m.Filesystem == nil && p.shape(m.Volume, vg).Segment == "":
		return p.makeRaw(ctx, m)
	}
	clean := false
	if !there {
		if clean, err = p.carve(ctx, m, nil); err != nil {
			return err
		}
	}
	if m.Filesystem == nil {
		if err := p.zero(ctx, name, 0); err != nil {
			return err // it still shows what others left there
		}
		return p.finish(ctx, name)
	}
	if err := p.format(ctx, name, m, clean); err != nil {
		return err
	}
	return p.finish(ctx, name)
}

// mayShow tells whether the administrator allows that a new volume shows what an earlier one held.
func (p *pool) mayShow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.defaults.Wipe == v1alpha1.WipeNone
}

// makeRaw makes a linear volume of extents that read as zeroes.
func (p *pool) makeRaw(ctx context.Context, m mark) error {
	name := lvName(m.Volume)
	return p.named(ctx, func() error {
		vg, err := p.enter(ctx)
		if err != nil {
			return err
		}
		on, done, err := p.zeroes(ctx, name, vg.RoundUp(m.Bytes))
		if err != nil {
			return err
		}
		defer done()
		return p.Group.Create(ctx, lvm.NewVolume{Name: name, Bytes: m.Bytes, Tags: m.tags(), On: on})
	})
}

// named makes a change that names the extents which it wants, and names others where it failed and the group is no more what it was:
// snapshots and volumes of several devices take extents that LVM chooses.
func (p *pool) named(ctx context.Context, change func() error) error {
	for n := 1; ; n++ {
		before, err := p.enter(ctx)
		if err != nil {
			return err
		}
		failed := change()
		if failed == nil || n == rounds || !fault.Is(failed, fault.Internal) {
			return failed
		}
		if now, err := p.enter(ctx); err != nil || now.Seqno == before.Seqno {
			return failed
		}
	}
}

func (p *pool) makeThin(ctx context.Context, m mark) error {
	n := lvm.NewThin{Name: lvName(m.Volume), Pool: p.thinPool, Bytes: m.Bytes, Tags: m.tags()}
	if m.Filesystem == nil {
		return p.CreateThin(ctx, n)
	}
	n.Active, n.Tags = true, append(n.Tags, makingTag)
	if err := p.CreateThin(ctx, n); err != nil {
		return err
	}
	if err := p.format(ctx, n.Name, m, true); err != nil {
		return err
	}
	return p.finish(ctx, n.Name)
}

// carve makes a thick volume that is not whole yet, active, and tells whether it reads as zeroes.
func (p *pool) carve(ctx context.Context, m mark, more []string) (bool, error) {
	return false, p.named(ctx, func() error { return p.carveOnce(ctx, m, more) })
}

func (p *pool) carveOnce(ctx context.Context, m mark, more []string) error {
	vg, err := p.layout(ctx)
	if err != nil {
		return err
	}
	n := lvm.NewVolume{
		Name: lvName(m.Volume), Bytes: m.Bytes, Shape: p.shape(m.Volume, vg), Active: true, Tags: slices.Concat(m.tags(), []string{makingTag}, more),
	}
	if n.Shape.Segment == "" {
		on, _, done, err := p.space.pick(vg, vg.RoundUp(m.Bytes), false)
		if err != nil {
			return err
		}
		defer done()
		n.On = on
	}
	return p.Group.Create(ctx, n)
}

// layout is enter with the free extents known.
func (p *pool) layout(ctx context.Context) (*lvm.VolumeGroup, error) {
	vg, err := p.enter(ctx)
	if err == nil && !vg.Layout {
		vg, err = p.fresh(ctx)
	}
	return vg, err
}

// finish takes the tags off that say that a volume is not whole, and deactivates it, in one call.
func (p *pool) finish(ctx context.Context, name string) error { return p.whole(ctx, name, true) }

func (p *pool) whole(ctx context.Context, name string, deactivate bool) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	tags := vg.LVs[name].Tags
	return p.Retag(ctx, lvm.Retag{
		Name: name, Remove: slices.Concat([]string{makingTag, growingTag}, having(tags, atTag), having(tags, sinceTag)), Deactivate: deactivate,
	})
}

// format makes the volume's file system. What an earlier owner of the extents left where it would be taken for a signature goes first.
func (p *pool) format(ctx context.Context, name string, m mark, zeroed bool) error {
	d, err := p.reach(ctx, name)
	if err != nil {
		return err
	}
	if !zeroed {
		if err := p.withDevice(d, func(f *os.File) error { return filesystem.Clear(ctx, f) }); err != nil {
			return err
		}
	}
	return filesystem.Make(ctx, p.tools.Command, d.Path, filesystem.Format{
		Type: filesystem.Type(m.Filesystem.Type), UUID: m.Filesystem.UUID, Options: m.Filesystem.MkfsOptions, Zeroed: zeroed,
	})
}

// reach activates a volume and returns its device, which is proven to be of this group and of that name.
func (p *pool) reach(ctx context.Context, name string) (lvm.Device, error) {
	vg, err := p.enter(ctx)
	if err != nil {
		return lvm.Device{}, err
	}
	d, _, err := lvm.FindDeviceNamed(vg.UUID, vg.Name, name)
	if fault.Is(err, fault.NotFound) {
		// A copy-on-write snapshot is active with its origin.
		lv := vg.LVs[name]
		active := name
		if lv.Kind == lvm.Snapshot {
			active = lv.Origin
		}
		if err := p.Activate(ctx, active); err != nil {
			return lvm.Device{}, err
		}
		d, _, err = lvm.FindDeviceNamed(vg.UUID, vg.Name, name)
	}
	if err != nil {
		return lvm.Device{}, fault.As(fault.Unavailable, err)
	}
	if d.Suspended {
		err = p.Refresh(ctx, name)
	}
	return d, err
}

// withDevice opens a device that nobody else uses for writing.
func (p *pool) withDevice(d lvm.Device, do func(*os.File) error) (err error) {
	f, err := blockdev.Open(d.Path, blockdev.Mode{Write: true, Exclusive: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return do(f)
}

// shape is how a volume lies on the devices of the group.
func (p *pool) shape(v datastore.Volume, vg *lvm.VolumeGroup) lvm.Shape {
	p.mu.Lock()
	defer p.mu.Unlock()
	stripes := cmp.Or(v.Stripes, int(p.spec.Defaults.Stripes))
	switch cmp.Or(v.Redundancy, p.spec.Defaults.Redundancy) {
	case v1alpha1.Mirror:
		if stripes > 1 {
			return lvm.Shape{Segment: "raid10", Stripes: stripes, Mirrors: 1}
		}
		return lvm.Shape{Segment: "raid1", Mirrors: 1}
	case v1alpha1.Parity:
		return lvm.Shape{Segment: "raid5", Stripes: cmp.Or(stripes, leastParity)}
	case v1alpha1.DoubleParity:
		return lvm.Shape{Segment: "raid6", Stripes: cmp.Or(stripes, leastDoubleParity)}
	}
	if stripes > 1 {
		return lvm.Shape{Segment: "striped", Stripes: stripes}
	}
	return lvm.Shape{}
}

// The disks with data where nobody says how many: as many as datastore.Volume.Takes counts on.
const (
	leastParity       = 2
	leastDoubleParity = 3
)
