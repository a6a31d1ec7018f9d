package conformance

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// remanenceBytes is the size of the storage, where it matters: all of it is read.
const remanenceBytes = gib

// TestNoVolumeShowsAnothersBytes: a pattern is written over a raw volume, which is deleted; then the whole pool is allocated,
// by volumes that read as zeroes.
func TestNoVolumeShowsAnothersBytes(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		b := benchOn(t, rows.Sized(row, remanenceBytes).Setup(t), turn(row))
		c := blockClaim()
		c.Bytes = 256 * mib
		secret := harness.Data{Seed: "remanence", Bytes: c.Bytes}
		v := inUse(t, b, c, secret)
		if found, err := secret.In(v.Target); err != nil || !found {
			t.Fatalf("the volume doesn't show its own bytes (%v)", err)
		}
		must(t, v.Down(ctx))
		must(t, b.Crash(ctx)) // what waits for its wipe does so over a death
		var all []*harness.Volume
		for bytes := min(b.Bytes()/4, 2*gib); bytes >= max(16*mib, b.Can().Granularity); {
			c.Bytes = b.Can().Round(bytes)
			v := b.Volume(t, c)
			var err error
			if len(all) == 0 { // space comes back after the wipe
				err = harness.Eventually(ctx, settleLimit, func() error { return v.Create(ctx) })
			} else {
				err = harness.Retry(ctx, v.Create)
			}
			if code := status.Code(err); code == codes.ResourceExhausted {
				bytes /= 2
				continue
			}
			must(t, err)
			all = append(all, v)
		}
		for _, v := range all {
			must(t, inSeries(ctx, v.Attach, v.Stage, v.Publish))
			if blank, err := harness.IsBlank(v.Target); err != nil || !blank {
				found, searchErr := secret.In(v.Target)
				t.Errorf("a new volume of %d bytes reads blank: %v (%v); it shows another's bytes: %v (%v)", v.Size, blank, err, found, searchErr)
			}
			must(t, v.Down(ctx))
		}
	})
}
