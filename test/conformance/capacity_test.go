package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// promised checks what the driver says that it has promised.
func promised(ctx context.Context, b bench, bytes int64, volumes int) error {
	got, err := b.Gauge(ctx, "provisioned_bytes", pool)
	if err != nil {
		return err
	}
	count, err := b.Gauge(ctx, "volumes", pool)
	if err != nil {
		return err
	}
	if int64(got) != bytes || int(count) != volumes {
		return fmt.Errorf("%d volumes with %d bytes were promised, the driver says %d with %d", volumes, bytes, int(count), int64(got))
	}
	return nil
}

func TestCapacityIsExactAfterAStorm(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		serving(t, b.Driver, pool)
		camera := b.camera()
		before := photographAtRest(t, camera)
		used, err := b.Used()
		must(t, err)
		available, err := b.Available(ctx, pool)
		must(t, err)
		footprint, err := b.Footprint()
		must(t, err)

		callers, each := 8, 12
		if harness.InMachine() { // whose one CPU starts 50 programs in a second
			callers, each = 4, 4
		}
		kept := storm(t, b, callers, each)
		var bytes int64
		for _, v := range kept {
			bytes += v.Size
		}
		must(t, promised(ctx, b, bytes, len(kept)))
		// The pool is large and thin volumes take little: what bounds it is the promise. What was deleted may wait for its
		// wipe.
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			now, err := b.Available(ctx, pool)
			if err == nil && (now > available-bytes || now < available-bytes-int64(len(kept))*mib*8) {
				err = fmt.Errorf("available were %d bytes, %d are promised since, now %d are available", available, bytes, now)
			}
			return err
		}))
		for _, v := range kept {
			must(t, v.Delete(ctx))
		}
		must(t, promised(ctx, b, 0, 0))
		must(t, camera.Settles(ctx, before, settleLimit))
		must(t, harness.Eventually(ctx, settleLimit, func() error { return backTo(b, used, int64(callers*each)) }))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			now, err := b.Available(ctx, pool)
			if err == nil && (now > available || now < available-int64(callers*each)*mib) {
				err = fmt.Errorf("available were %d bytes before the storm, now are %d", available, now)
			}
			return err
		}))
		nothingPilesUp(t, b, footprint)
	})
}

// backTo checks that no more than 1 MiB a volume is missing.
func backTo(b bench, used int64, volumes int64) error {
	now, err := b.Used()
	if err == nil && now-used > volumes*mib {
		err = fmt.Errorf("%d bytes were used before %d volumes lived, %d after", used, volumes, now)
	}
	return err
}

// storm makes, uses, grows and deletes volumes from several callers; it returns those that it left.
func storm(t *testing.T, b bench, callers, each int) []*harness.Volume {
	t.Helper()
	var all errgroup.Group
	left := make([][]*harness.Volume, callers)
	for i := range callers {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		claims := []harness.Claim{claim("ext4"), blockClaim(), blockClaim()}
		var volumes []*harness.Volume
		for n := range each {
			volumes = append(volumes, b.Volume(t, claims[n%len(claims)]))
		}
		all.Go(func() error {
			for n, v := range volumes {
				keep := n%4 == 3
				if err := gust(t.Context(), v, random.IntN(3), keep, b.Can().Behind); err != nil {
					return fmt.Errorf("caller %d, volume %s: %w", i, v.Name, err)
				}
				if keep {
					left[i] = append(left[i], v)
				}
			}
			return nil
		})
	}
	must(t, all.Wait())
	var kept []*harness.Volume
	for _, l := range left {
		kept = append(kept, l...)
	}
	return kept
}

// gust is one volume's part of a storm: how far its life goes is chosen by depth. Where volumes grow into the space behind
// them, another may be in the way.
func gust(ctx context.Context, v *harness.Volume, depth int, keep, behind bool) error {
	if err := v.Create(ctx); err != nil {
		return err
	}
	if depth > 0 {
		if err := v.Attach(ctx); err != nil {
			return err
		}
	}
	if depth > 1 {
		if err := errors.Join(v.Stage(ctx), v.Publish(ctx)); err != nil {
			return err
		}
		if err := store(v, harness.Data{Seed: "storm", Bytes: mib}, 0); err != nil {
			return err
		}
	}
	if _, err := v.Expand(ctx, v.Size+mib); err != nil && (!behind || status.Code(err) != codes.ResourceExhausted) {
		return err
	}
	if depth > 1 {
		if err := errors.Join(v.Unpublish(ctx), v.Unstage(ctx)); err != nil {
			return err
		}
	}
	if depth > 0 {
		if err := v.Detach(ctx); err != nil {
			return err
		}
	}
	if keep {
		return nil
	}
	return v.Delete(ctx)
}

// nothingPilesUp checks that a driver at rest holds no more than before.
func nothingPilesUp(t *testing.T, b bench, before harness.Footprint) {
	t.Helper()
	// The runtime keeps threads for later; they are bounded by what ran at once. Descriptors are exact but for one
	// connection each of the callers' and the scraper's.
	must(t, harness.Eventually(t.Context(), settleLimit, func() error {
		now, err := b.Footprint()
		if err == nil && (now.Descriptors > before.Descriptors+3 || now.Children > 0 || now.Threads > before.Threads+24) {
			err = fmt.Errorf("the driver held %+v before and holds %+v at rest", before, now)
		}
		return err
	}))
}

func TestADriverThatWorkedLongHoldsNothingMore(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		serving(t, b.Driver, pool)
		round := func() {
			for _, v := range storm(t, b, 4, 4) {
				must(t, v.Delete(t.Context()))
			}
		}
		round()
		goroutines, err := b.Goroutines(t.Context())
		must(t, err)
		footprint, err := b.Footprint()
		must(t, err)
		for range 3 {
			round()
		}
		nothingPilesUp(t, b, footprint)
		must(t, harness.Eventually(t.Context(), settleLimit, func() error {
			now, err := b.Goroutines(t.Context())
			if err == nil && now > goroutines+2 {
				err = fmt.Errorf("%d goroutines after one round, %d after four", goroutines, now)
			}
			return err
		}))
	})
}

func TestThinVolumesMayBeOverPromisedOnlyWhereAsked(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s := row.Setup(t)
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool).With(200, "capacity", "overcommitPercent")}, Await: []string{pool}, Metrics: true})
		b := bench{Driver: d, Storage: s}
		ask := blockClaim()
		ask.Bytes = s.Can().Round(s.Bytes() * 3 / 4)
		if !s.Can().Thin() {
			must(t, b.Volume(t, ask).Create(ctx))
			noRoom(t, b, ask) // whatever may be promised, bytes can't be doubled
			return
		}
		var made []*harness.Volume
		for range 2 {
			v := b.Volume(t, ask)
			must(t, v.Create(ctx))
			made = append(made, v)
		}
		must(t, promised(ctx, b, 2*ask.Bytes, 2))
		noRoom(t, b, ask)
		if s.Can().Thick() {
			thick := ask
			thick.Parameters = in(pool, "provisioning", "thick")
			thick.Bytes = s.Bytes() * 6 / 5
			noRoom(t, b, thick) // a promise can be doubled, bytes can't
		}
		for _, v := range made {
			must(t, v.Delete(ctx))
		}
		must(t, promised(ctx, b, 0, 0))
	})
}
