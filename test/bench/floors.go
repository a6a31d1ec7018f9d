package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// What the floors are made of, for the reader.
const (
	bareImage = "record, mkdir, create, ftruncate, mark, fsync of mark, image and folder, rename, fsync of both folders, record"
	bareMkfs  = bareImage + "; before the fsyncs LOOP_CONFIGURE, mke2fs, LOOP_CLR_FD"
	bareTree  = "record, mkdir twice, mark, fsync of mark and both folders, rename, fsync of both folders, record"
	bareBlock = "LOOP_CONFIGURE with direct I/O, bind mount of the device node"
	bareMount = "LOOP_CONFIGURE with direct I/O, mkdir, mount, mkdir, bind mount"
	bareBinds = "mkdir, bind mount, mkdir, bind mount"
)

// pairing measures the driver and the floor in turns.
type pairing struct {
	bench  *bench
	driver *harness.Driver
	hand   *hand
	at     place
}

// floors measures CreateVolume, and NodeStageVolume with NodePublishVolume, beside the same by hand.
func (b *bench) floors(ctx context.Context) error {
	at, err := b.own()
	if err != nil {
		return err
	}
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	h, err := newHand(at, b.made)
	if err != nil {
		return err
	}
	p := &pairing{b, d, h, at}
	for _, f := range []struct {
		kind       kind
		fsType     string
		make, bind string
	}{{raw(), "", bareImage, bareBlock}, {withExt4(), "ext4", bareMkfs, bareMount}, {directory(), "", bareTree, bareBinds}} {
		if err := p.measure(ctx, f.kind, f.fsType, f.make, f.bind); err != nil {
			return fmt.Errorf("%s: %w", f.kind.name, err)
		}
	}
	return errors.Join(h.close(), d.Stop())
}

// measure takes a kind of volume through both.
func (p *pairing) measure(ctx context.Context, k kind, fsType, made, bound string) error {
	volumes := make([]*harness.Volume, p.bench.amounts.pairs)
	for i := range volumes {
		var err error
		if volumes[i], err = p.bench.volume(p.driver, k.claim); err != nil {
			return err
		}
	}
	byDriver := rival{do: func(ctx context.Context, i int) error { return volumes[i].Create(ctx) }}
	byHand := rival{do: func(_ context.Context, i int) error {
		if k.name == subdirectory {
			return p.hand.tree(i)
		}
		return p.hand.image(i, fsType, k.claim.Bytes)
	}}
	if err := p.note(ctx, "CreateVolume, "+k.name, made, byDriver, byHand); err != nil {
		return err
	}
	for _, v := range volumes {
		if err := v.Attach(ctx); err != nil {
			return err
		}
	}
	if err := p.note(ctx, "stage + publish, "+k.name, bound, published(volumes), p.held(k, fsType)); err != nil {
		return err
	}
	for i, v := range volumes {
		if err := errors.Join(v.Detach(ctx), v.Delete(ctx), os.RemoveAll(p.hand.join("volumes", name(i)))); err != nil {
			return err
		}
	}
	return nil
}

// published stages and publishes, and takes both back.
func published(volumes []*harness.Volume) rival {
	return rival{
		do: func(ctx context.Context, i int) error {
			if err := volumes[i].Stage(ctx); err != nil {
				return err
			}
			return volumes[i].Publish(ctx)
		},
		undo: func(ctx context.Context, i int) error {
			if err := volumes[i].Unpublish(ctx); err != nil {
				return err
			}
			return volumes[i].Unstage(ctx)
		},
	}
}

// held does by hand what published does.
func (p *pairing) held(k kind, fsType string) rival {
	if k.name == subdirectory {
		return rival{
			do:   func(_ context.Context, i int) error { return p.hand.bind(i) },
			undo: func(_ context.Context, i int) error { return p.hand.unbind(i) },
		}
	}
	var device *os.File
	return rival{
		do: func(_ context.Context, i int) (err error) {
			device, err = p.hand.up(i, fsType)
			return err
		},
		undo: func(_ context.Context, i int) error { return p.hand.down(i, device, fsType) },
	}
}

// note compares two and adds what came of it to the report.
func (p *pairing) note(ctx context.Context, name, by string, driver, hand rival) error {
	a, b, err := compare(ctx, p.bench.amounts.pairs, driver, hand)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f := floorFigures{Name: name, Place: p.at.name, Unit: "ms", Driver: sum(a).P50, Hand: sum(b).P50, Parts: by}
	f.Ratio = round(f.Driver/f.Hand, 2)
	p.bench.report.Floors = append(p.bench.report.Floors, f)
	return nil
}
