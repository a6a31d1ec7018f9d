package lvm

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// noted is how often it is noted in a volume's tags how far long work on it is: what a crash costs at most.
const noted = 10 * time.Second

// note returns a function that notes in a volume's tags how far work on it is, now and then.
func (p *pool) note(ctx context.Context, name string) blockdev.Tell {
	last := p.tools.Now()
	return func(offset int64) error {
		if now := p.tools.Now(); now.Sub(last) < noted {
			return nil
		}
		vg, err := p.enter(ctx)
		if err != nil {
			return err
		}
		at := []string{atTag + strconv.FormatInt(offset, 10)}
		err = p.Retag(ctx, lvm.Retag{Name: name, Add: at, Remove: without(having(vg.LVs[name].Tags, atTag), at)})
		last = p.tools.Now()
		return err
	}
}

// zero makes a volume read as zeroes, from where an earlier call came to, or from that offset.
func (p *pool) zero(ctx context.Context, name string, from int64) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	lv := vg.LVs[name]
	if from == 0 {
		from = number(lv.Tags, atTag)
	}
	d, err := p.reach(ctx, name)
	if err != nil {
		return err
	}
	return p.withDevice(d, func(f *os.File) error {
		size, err := blockdev.SizeOf(f)
		if err != nil || from >= size {
			return err
		}
		return blockdev.Zero(ctx, f, from, size, p.note(ctx, name))
	})
}

// rounds is how often extents are zeroed that somebody else takes before they can be used.
const rounds = 5

// zeroes returns that many free extents that read as zeroes, and keeps others off them until done is called. Where too few are known
// to, a volume of free ones is made for that, zeroed and given back: it bears a name of its own, so that work that was
// interrupted is gone on with.
func (p *pool) zeroes(ctx context.Context, name string, extents int64) ([]lvm.Range, func(), error) {
	scrub := "z-" + name
	defer p.begin(scrub)()
	for range rounds {
		vg, err := p.layout(ctx)
		if err != nil {
			return nil, nil, err
		}
		if _, begun := vg.LVs[scrub]; !begun {
			on, ok, done, err := p.space.pick(vg, extents, true)
			if err != nil || ok {
				return on, done, err
			}
			if err := p.carveRemainder(ctx, vg, scrub, extents); err != nil {
				return nil, nil, err
			}
		}
		if err := p.wipe(ctx, scrub); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fault.New(fault.Unavailable, "others take the extents that are zeroed for it; try again")
}

// carveRemainder makes a volume of free extents that is only there to be wiped.
func (p *pool) carveRemainder(ctx context.Context, vg *lvm.VolumeGroup, name string, extents int64) error {
	on, _, done, err := p.space.pick(vg, extents, false)
	if err != nil {
		return err
	}
	defer done()
	return p.Group.Create(ctx, lvm.NewVolume{
		Name: name, Bytes: extents * vg.ExtentSize, On: on, Active: true, Tags: []string{p.remainder("Zero")},
	})
}
