package main

import (
	"context"
	"fmt"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// copies measures growth, snapshots, and volumes made from snapshots and from volumes, where the file system
// shares blocks (xfs) and where all bytes are copied.
func (b *bench) copies(ctx context.Context) error {
	own, err := b.own()
	if err != nil {
		return err
	}
	xfs, err := b.disk(ctx, "xfs")
	if err != nil {
		return err
	}
	for _, at := range []place{xfs, own} {
		if err := b.copiesAt(ctx, at); err != nil {
			return fmt.Errorf("%s: %w", at.name, err)
		}
	}
	return nil
}

func (b *bench) copiesAt(ctx context.Context, at place) error {
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	for _, k := range []kind{raw(), withExt4()} {
		watch := newStopwatch()
		for range b.amounts.copies {
			if err := b.copy(ctx, d, k, watch); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		b.report.Copies = append(b.report.Copies, copyFigures{Place: at.name, Volume: k.name, Calls: watch.latencies()})
	}
	return d.Stop()
}

// copy takes one volume, a snapshot of it, what is restored from that and a clone through their lives.
func (b *bench) copy(ctx context.Context, d *harness.Driver, k kind, watch *stopwatch) error {
	source, err := b.volume(d, k.claim)
	if err != nil {
		return err
	}
	if err := source.Create(ctx); err != nil {
		return err
	}
	s := source.Snapshot()
	if err := watch.time(ctx, "CreateSnapshot until ready", s.Ready); err != nil {
		return err
	}
	larger := k.claim
	larger.From = s.Source()
	clone := k.claim
	clone.From = source.Source()
	var made []*harness.Volume
	for _, c := range []struct {
		name  string
		claim harness.Claim
	}{{"CreateVolume from a snapshot", larger}, {"CreateVolume from a volume", clone}} {
		v, err := b.volume(d, c.claim)
		if err != nil {
			return err
		}
		if err := watch.time(ctx, c.name, v.Create); err != nil {
			return err
		}
		made = append(made, v)
	}
	if err := watch.time(ctx, "DeleteSnapshot", s.Delete); err != nil {
		return err
	}
	grow := func(ctx context.Context) error {
		_, err := source.Expand(ctx, 2*volumeBytes)
		return err
	}
	if err := watch.time(ctx, "ControllerExpandVolume", grow); err != nil {
		return err
	}
	for _, v := range append(made, source) {
		if err := v.Delete(ctx); err != nil {
			return err
		}
	}
	return nil
}
