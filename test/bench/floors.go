package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// What the floors are made of, for the reader. A record is a page of a file that has its space, and fdatasync(2).
const (
	bareMake  = "record, mkdir, create, ftruncate, mark, fsync of mark, image and folder, rename, fsync of both folders, record"
	bareMkfs  = "the same; before the fsyncs LOOP_CONFIGURE, mke2fs, LOOP_CLR_FD"
	bareTree  = "record, mkdir twice, mark, fsync of mark and both folders, rename, fsync of both folders, record"
	bareQuota = "the same with FS_IOC_FSSETXATTR and quotactl"
	bareBlock = "LOOP_CONFIGURE with direct I/O, bind mount of the device node"
	bareMount = "LOOP_CONFIGURE with direct I/O, mkdir, mount, mkdir, bind mount"
	bareBinds = "mkdir, bind mount, mkdir, bind mount"
	bareLife  = "all of this and what undoes it, 10 records, 5 writings of a stage record, each synced"
	withThree = "; a record and three writings of a stage record, each synced"
)

// floors measures calls, and whole lives, beside the same by hand.
func (b *bench) floors(ctx context.Context) error {
	at, err := b.own()
	if err != nil {
		return err
	}
	return b.floorsAt(ctx, at, raw(), withExt4(), directory())
}

func (b *bench) floorsAt(ctx context.Context, at place, kinds ...kind) error {
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	h, err := newHand(at, b.made)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		p := &pairing{bench: b, driver: d, hand: h, at: at, kind: k}
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return errors.Join(h.close(), d.Stop())
}

// callsOfLife is how many calls a life is.
const callsOfLife = 8

// pairing measures the driver and the floor in turns.
type pairing struct {
	bench   *bench
	driver  *harness.Driver
	hand    *hand
	at      place
	kind    kind
	volumes []*harness.Volume
}

// parts say what is done by hand.
func (p *pairing) parts() (made, bound string) {
	switch k := p.kind; {
	case k.limited:
		return bareTree + ", " + bareQuota, bareBinds
	case k.tree:
		return bareTree, bareBinds
	case k.claim.Block:
		return bareMake, bareBlock
	}
	return bareMake + "; " + bareMkfs, bareMount
}

// measure takes volumes through both.
func (p *pairing) measure(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	made, bound := p.parts()
	byDriver := rival{do: func(ctx context.Context, i int) error { return p.volumes[i].Create(ctx) }}
	byHand := rival{do: func(_ context.Context, i int) error { return p.hand.make(i, p.kind) }}
	if err := p.note(ctx, aimCreate, made, byDriver, byHand); err != nil {
		return err
	}
	for _, v := range p.volumes {
		if err := v.Attach(ctx); err != nil {
			return err
		}
	}
	if err := p.note(ctx, aimPublish, bound, p.published(), p.held(false)); err != nil {
		return err
	}
	if err := p.note(ctx, aimPublish+recordsToo, bound+withThree, p.published(), p.held(true)); err != nil {
		return err
	}
	for i, v := range p.volumes {
		if err := errors.Join(v.Detach(ctx), v.Delete(ctx), p.hand.remove(i)); err != nil {
			return err
		}
	}
	return p.lives(ctx)
}

// prepare makes the folders that kubelet would make, for new volumes.
func (p *pairing) prepare() error {
	p.volumes = make([]*harness.Volume, p.bench.amounts.pairs)
	for i := range p.volumes {
		var err error
		if p.volumes[i], err = p.bench.volume(p.driver, p.kind.claim); err != nil {
			return err
		}
	}
	return nil
}

// lives compares whole lives.
func (p *pairing) lives(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	unwatched := newStopwatch()
	byDriver := rival{do: func(ctx context.Context, i int) error { return life(ctx, p.volumes[i], unwatched) }}
	byHand := rival{do: func(_ context.Context, i int) error { return p.hand.life(i, p.kind) }}
	if err := p.note(ctx, aimLife, bareLife, byDriver, byHand); err != nil {
		return err
	}
	if err := p.prepare(); err != nil {
		return err
	}
	byHand.do = func(ctx context.Context, i int) error {
		for range callsOfLife {
			if _, err := p.driver.Probe(ctx, &csi.ProbeRequest{}); err != nil {
				return err
			}
		}
		return p.hand.life(i, p.kind)
	}
	return p.note(ctx, aimLife+callsToo, bareLife+"; and 8 calls of Probe", byDriver, byHand)
}

// published stages and publishes, and takes both back.
func (p *pairing) published() rival {
	return rival{
		do: func(ctx context.Context, i int) error {
			if err := p.volumes[i].Stage(ctx); err != nil {
				return err
			}
			return p.volumes[i].Publish(ctx)
		},
		undo: func(ctx context.Context, i int) error {
			if err := p.volumes[i].Unpublish(ctx); err != nil {
				return err
			}
			return p.volumes[i].Unstage(ctx)
		},
	}
}

// held does by hand what published does.
func (p *pairing) held(records bool) rival {
	var device *os.File
	return rival{
		do: func(_ context.Context, i int) (err error) {
			if records {
				if err := p.hand.announce(i); err != nil {
					return err
				}
			}
			device, err = p.hand.up(i, p.kind)
			return err
		},
		undo: func(_ context.Context, i int) error {
			err := p.hand.down(i, device, p.kind)
			if records {
				err = errors.Join(err, p.hand.retract(i))
			}
			return err
		},
	}
}

// note compares two and adds what came of it to the report.
func (p *pairing) note(ctx context.Context, name, by string, driver, hand rival) error {
	a, b, err := compare(ctx, p.bench.amounts.pairs, driver, hand)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f := floorFigures{Name: name, Volume: p.kind.name, Place: p.at.name, Unit: "ms", Driver: sum(a).P50, Hand: sum(b).P50, Parts: by}
	f.Ratio = round(f.Driver/f.Hand, 2)
	p.bench.report.Floors = append(p.bench.report.Floors, f)
	return nil
}
