package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	// pageOf is how many volumes a page of ListVolumes has, wherever they are.
	pageOf = 10

	callListAll = "ListVolumes, all"
)

// many measures calls and starts with ever more raw volumes.
func (b *bench) many(ctx context.Context) error {
	k := raw()
	k.claim.Bytes = mib
	return b.growing(ctx, k, b.amounts.existing)
}

// formatted is many with volumes that have a file system.
func (b *bench) formatted(ctx context.Context) error {
	k := withExt4()
	k.claim.Bytes = 16 * mib
	return b.growing(ctx, k, b.amounts.formatted)
}

func (b *bench) growing(ctx context.Context, k kind, numbers []int) error {
	at, err := b.own()
	if err != nil {
		return err
	}
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	if err := b.footprint(ctx, d, k, 0, "start"); err != nil {
		return err
	}
	existing := 0
	for _, n := range numbers {
		if err := b.fill(ctx, d, k, n-existing); err != nil {
			return err
		}
		existing = n
		if err := b.withMany(ctx, d, k, at, n); err != nil {
			return fmt.Errorf("with %d volumes: %w", n, err)
		}
	}
	return d.Kill() // nothing is staged, and the folder goes as a whole
}

// fill makes volumes.
func (b *bench) fill(ctx context.Context, d *harness.Driver, k kind, n int) error {
	claims := make([]harness.Claim, n)
	for i := range claims {
		claims[i] = k.claim
		claims[i].Name = harness.NewName()
	}
	return each(ctx, claims, func(ctx context.Context, c harness.Claim) error {
		_, err := d.CreateVolume(ctx, c.Request())
		return err
	})
}

func (b *bench) withMany(ctx context.Context, d *harness.Driver, k kind, at place, existing int) error {
	f := manyFigures{Place: at.name, Volume: k.name, Existing: existing}
	watch := newStopwatch()
	var middle string
	for i := range b.amounts.calls {
		v, err := b.volume(d, k.claim)
		if err != nil {
			return err
		}
		list := func(ctx context.Context) error {
			page, err := d.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: pageOf, StartingToken: middle})
			if i == 0 {
				middle = page.GetNextToken()
			}
			return err
		}
		capacity := func(ctx context.Context) error {
			_, err := d.Available(ctx, datastoreName)
			return err
		}
		all := func(ctx context.Context) error {
			_, err := d.ListVolumes(ctx, &csi.ListVolumesRequest{})
			return err
		}
		for _, call := range []struct {
			name string
			do   func(context.Context) error
		}{{callCreate, v.Create}, {"DeleteVolume", v.Delete}, {callList, list}, {callCapacity, capacity}} {
			if err := watch.time(ctx, call.name, call.do); err != nil {
				return fmt.Errorf("%s: %w", call.name, err)
			}
		}
		if i < b.amounts.starts { // a long answer, which costs memory
			if err := watch.time(ctx, callListAll, all); err != nil {
				return err
			}
		}
	}
	if err := b.footprint(ctx, d, k, existing, "work"); err != nil {
		return err
	}
	f.Calls = watch.latencies()
	var starts []float64
	for range b.amounts.starts {
		took, err := restart(ctx, d)
		if err != nil {
			return err
		}
		starts = append(starts, milliseconds(took))
	}
	f.StartMs = median(starts)
	b.report.Many = append(b.report.Many, f)
	return b.footprint(ctx, d, k, existing, "start")
}

// restart stops the driver, starts it, and returns how long it took from the start of the process until it
// said that it is ready.
func restart(ctx context.Context, d *harness.Driver) (time.Duration, error) {
	if err := d.Stop(); err != nil {
		return 0, err
	}
	began := time.Now()
	started := make(chan error, 1)
	go func() { started <- d.Start(ctx) }()
	ready := make(chan error, 1)
	var took time.Duration
	go func() {
		ready <- firstReady(ctx, d.Socket)
		took = time.Since(began)
	}()
	err := errors.Join(<-ready, <-started)
	return took, err
}

// firstReady asks a driver that is about to listen whether it is ready. A client of its own: one that was refused waits longer each
// time.
func firstReady(ctx context.Context, socket string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			_ = c.Close() // nothing was written
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	client, err := harness.Dial(socket)
	if err != nil {
		return err
	}
	return errors.Join(client.Ready(ctx), client.Close())
}

// footprint waits until the driver has been idle for a while and notes its memory.
func (b *bench) footprint(ctx context.Context, d *harness.Driver, k kind, existing int, after string) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.amounts.idle):
	}
	status := filepath.Join("/proc", strconv.Itoa(d.PID()), "status")
	if _, err := os.Stat(status); err != nil {
		return err
	}
	b.report.Footprint = append(b.report.Footprint, footprint{
		Existing: existing, Volume: k.name, After: after,
		AnonMiB: round(float64(kibibytes(status, "RssAnon"))/1024, 1), RSSMiB: round(float64(kibibytes(status, "VmRSS"))/1024, 1),
	})
	return nil
}

// sorted gives the keys of calls in the order of a life, others behind.
func sorted(calls map[string]latency) []string {
	order := []string{
		callCreate, "ControllerPublishVolume", "NodeStageVolume", "NodePublishVolume",
		"NodeUnpublishVolume", "NodeUnstageVolume", "ControllerUnpublishVolume", "DeleteVolume",
	}
	var names []string
	for name := range calls {
		names = append(names, name)
	}
	place := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return slices.Compare([]string{a}, []string{b})
	})
	return names
}
