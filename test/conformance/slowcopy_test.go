package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// TestACopyOutlivesTheDriversCrashes: a copy that takes a while is killed again and again, goes on, and is not ready
// before all of it is there.
func TestACopyOutlivesTheDriversCrashes(t *testing.T) {
	onBenchesThat(t, makeClones, func(t *testing.T, b bench) {
		ctx := t.Context()
		camera := b.camera()
		before := photograph(t, camera)
		c := blockClaim()
		c.Bytes = 256 * mib
		d := harness.Data{Seed: "long", Bytes: 200 * mib}
		v := inUse(t, b, c, d)
		must(t, inSeries(ctx, v.Unpublish, v.Unstage, v.Detach))

		s := v.Snapshot()
		c.From = v.Source()
		if b.Can().Snapshots {
			killedWhile(t, b, s.Create)
			must(t, s.Ready(withLimit(t, 2*time.Minute)))
			c.From = s.Source()
		}
		clone := b.Volume(t, c)
		killedWhile(t, b, clone.Create)
		must(t, harness.Retry(withLimit(t, 2*time.Minute), clone.Create))
		must(t, inSeries(ctx, clone.Attach, clone.Stage, clone.Publish))
		must(t, holds(clone, d, 0))
		if b.Can().Snapshots {
			must(t, s.Delete(ctx))
		}
		must(t, inSeries(ctx, clone.Down, v.Delete))
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}

// killedWhile makes a call and kills the driver in the midst of what it does, three times.
func killedWhile(t *testing.T, b bench, call func(context.Context) error) {
	t.Helper()
	for n := range 3 {
		called, cancel := context.WithTimeout(t.Context(), time.Duration(n+1)*30*time.Millisecond)
		err := call(called)
		cancel()
		switch status.Code(err) {
		case codes.OK, codes.DeadlineExceeded, codes.Aborted, codes.Unavailable, codes.Canceled:
		default:
			t.Fatal(err)
		}
		must(t, b.Crash(t.Context()))
	}
}

// TestACopyThatHasNoRoomLeavesNothing and says so.
func TestACopyThatHasNoRoomLeavesNothing(t *testing.T) {
	needsRoom := func(c rows.Can) bool { return c.Clones && !c.Shares }
	onBenchesThat(t, needsRoom, func(t *testing.T, b bench) {
		ctx := t.Context()
		c := blockClaim()
		c.Bytes = 64 * mib
		v := inUse(t, b, c, harness.Data{Seed: "big", Bytes: 60 * mib})
		must(t, inSeries(ctx, v.Unpublish, v.Unstage, v.Detach))
		camera := b.camera()
		before := photograph(t, camera)
		empty := b.Fill(t, 20*mib)
		c.From = v.Source()
		clone := b.Volume(t, c)
		create, remove := clone.Create, clone.Delete
		if b.Can().Snapshots && b.Can().Images { // in a volume group they take less than their source
			s := v.Snapshot()
			create, remove = s.Create, s.Delete
		}
		var err error
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			if err = create(ctx); status.Code(err) != codes.ResourceExhausted {
				return fmt.Errorf("the copy without room: %w", err)
			}
			return nil
		}))
		empty()
		must(t, camera.Settles(ctx, before, settleLimit))
		must(t, harness.Eventually(ctx, settleLimit, func() error { return create(ctx) }))
		must(t, remove(ctx))
		must(t, v.Delete(ctx))
	})
}
