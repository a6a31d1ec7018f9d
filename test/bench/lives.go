package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// The calls, by their names in the CSI specification.
const (
	callCreate   = "CreateVolume"
	callList     = "ListVolumes"
	callCapacity = "GetCapacity"
)

// kind is a kind of volume.
type kind struct {
	name  string
	claim harness.Claim
	// tree is a directory, limited one with a project quota.
	tree, limited bool
}

const (
	rawBlock     = "raw block image"
	ext4Image    = "ext4 image"
	subdirectory = "subdirectory, quota none"
	limitedTree  = "subdirectory with a project quota"

	volumeBytes = 64 * mib
)

func raw() kind { return kind{name: rawBlock, claim: claim("", volumeBytes)} }

func withExt4() kind { return kind{name: ext4Image, claim: claim("ext4", volumeBytes)} }

func directory() kind {
	c := claim("", volumeBytes)
	c.Block = false
	c.Parameters["format"], c.Parameters["quota"] = "subdirectory", "none"
	return kind{name: subdirectory, claim: c, tree: true}
}

func limited() kind {
	k := directory()
	delete(k.claim.Parameters, "quota")
	k.name, k.limited = limitedTree, true
	return k
}

// lives measures whole lives of each kind of volume, one at a time and many at once.
func (b *bench) lives(ctx context.Context) error {
	at, err := b.own()
	if err != nil {
		return err
	}
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	for _, k := range []kind{raw(), withExt4(), directory()} {
		for _, callers := range []int{1, together} {
			n := b.amounts.livesAlone
			if callers > 1 {
				n = b.amounts.livesTogether
			}
			f := lifeFigures{Place: at.name, Volume: k.name, Callers: callers}
			watch := newStopwatch()
			for range b.amounts.rounds {
				rate, err := b.round(ctx, d, k, callers, n, watch)
				if err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
				f.Rounds = append(f.Rounds, round(rate, 1))
			}
			f.PerSecond, f.Calls = round(median(f.Rounds), 1), watch.latencies()
			b.report.Lives = append(b.report.Lives, f)
		}
	}
	return d.Stop()
}

// round takes n volumes through their lives and returns how many that is in a second.
func (b *bench) round(ctx context.Context, d *harness.Driver, k kind, callers, n int, watch *stopwatch) (float64, error) {
	volumes := make(chan *harness.Volume, n)
	for range n {
		v, err := b.volume(d, k.claim)
		if err != nil {
			return 0, err
		}
		volumes <- v
	}
	close(volumes)
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(func() error {
			for v := range volumes {
				if err := life(ctx, v, watch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(n) / time.Since(began).Seconds(), err
}

// life is all that external-provisioner, external-attacher and kubelet call for a volume.
func life(ctx context.Context, v *harness.Volume, watch *stopwatch) error {
	for _, call := range []struct {
		name string
		do   func(context.Context) error
	}{
		{callCreate, v.Create},
		{"ControllerPublishVolume", v.Attach},
		{"NodeStageVolume", v.Stage},
		{"NodePublishVolume", v.Publish},
		{"NodeUnpublishVolume", v.Unpublish},
		{"NodeUnstageVolume", v.Unstage},
		{"ControllerUnpublishVolume", v.Detach},
		{"DeleteVolume", v.Delete},
	} {
		if err := watch.time(ctx, call.name, call.do); err != nil {
			return fmt.Errorf("%s: %w", call.name, err)
		}
	}
	return nil
}

// each does something with so many volumes, many at once.
func each[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	var next sync.Mutex
	i := 0
	take := func() (t T, ok bool) {
		next.Lock()
		defer next.Unlock()
		if i == len(all) {
			return t, false
		}
		i++
		return all[i-1], true
	}
	group, ctx := errgroup.WithContext(ctx)
	for range together {
		group.Go(func() error {
			for t, ok := take(); ok; t, ok = take() {
				if err := do(ctx, t); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
