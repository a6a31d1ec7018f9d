package hardware

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// everyNth of the changes of a life are tried, each day others; all with TEST_CRASH_POINTS=all.
const everyNth = 8

// Before each change of a life the disk fails, and works again once the call has ended: the call ends in time, with an error or
// without one, the same call succeeds then, and in the end nothing is left of the volume and a neighbour has its bytes.
func TestADiskThatFailsBeforeAnyChange(t *testing.T) {
	for _, kind := range []struct {
		name string
		thin int64
	}{{"thick", 0}, {"thin", gib}} {
		t.Run(kind.name, func(t *testing.T) {
			ctx := t.Context()
			g := newGroup(t, "fails"+kind.name, 1, 2*gib, kind.thin)
			l := newLab(t, g)
			neighbour := l.Driver.Driver.Volume(t, harness.Claim{Block: true, Bytes: 32 * mib, Parameters: in()})
			must(t, neighbour.Up(ctx))
			kept := harness.Data{Seed: "neighbour", Bytes: 16 * mib}
			must(t, write(neighbour, kept))

			l.interrupted(t, l.volume(t, claim("ext4")), 0, nil)
			n, _, err := l.Points()
			must(t, err)
			if n < 8 {
				t.Fatalf("a life has %d changes only", n)
			}
			tried := 0
			for point := 1; point <= n; point++ {
				if !crash.Chosen(point, everyNth) {
					continue
				}
				at := l.interrupted(t, l.volume(t, claim("ext4")), point, func(string) func() {
					must(t, g.disks[0].Fail())
					return func() { must(t, g.disks[0].Recover()) }
				})
				tried++
				if at == "" {
					t.Errorf("no change has the number %d", point)
				}
				must(t, holds(neighbour, kept))
				must(t, harness.Eventually(ctx, settleLimit, func() error { return g.only(neighbour.ID) }))
			}
			t.Logf("%d of %d changes", tried, n)
			must(t, inSeries(ctx, neighbour.Unpublish, neighbour.Unstage, neighbour.Detach, neighbour.Delete))
		})
	}
}

// The disk works for three seconds, then fails all writing for one, over and over (dm-flakey): lives go on, and what was synced is there.
func TestVolumesOutliveADiskThatFailsNowAndThen(t *testing.T) {
	ctx := t.Context()
	g := newGroup(t, "flaky", 1, 2*gib, 0)
	d := serve(t, g)
	must(t, g.disks[0].Flaky(3, 1, "error_writes"))
	for _, block := range []bool{true, false, true} {
		c := claim("ext4")
		if block {
			c = harness.Claim{Block: true, Bytes: 64 * mib, Parameters: in()}
		}
		v := d.Volume(t, c)
		data := harness.Data{Seed: "synced", Bytes: 8 * mib}
		again := func(what string, call func(context.Context) error) {
			t.Helper()
			if err := harness.Eventually(ctx, settleLimit, func() error { return call(ctx) }); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		again("create", v.Create)
		again("attach", v.Attach)
		again("stage", v.Stage)
		again("publish", v.Publish)
		if block {
			again("write", func(context.Context) error { return write(v, data) })
			must(t, holds(v, data))
		}
		again("unpublish", v.Unpublish)
		again("unstage", v.Unstage)
		if block {
			again("stage again", v.Stage)
			again("publish again", v.Publish)
			again("read", func(context.Context) error { return holds(v, data) })
			again("unpublish again", v.Unpublish)
			again("unstage again", v.Unstage)
		}
		again("detach", v.Detach)
		again("delete", v.Delete)
	}
	must(t, g.disks[0].Recover())
	must(t, harness.Eventually(ctx, settleLimit, func() error { return g.only() }))
	serving(t, d)
}

// Two hundred volumes (forty, unless all crash points are tried) are made, grown, copied and removed with ten callers at once: no command waits for udev, none is left behind,
// and after a restart those that are staged are there, on the host as for the driver.
func TestManyVolumesAndCallers(t *testing.T) {
	ctx := t.Context()
	g := newGroup(t, "many", 1, 8*gib, 6*gib)
	d := serve(t, g)
	all := make([]*harness.Volume, 40)
	if crash.All() {
		all = make([]*harness.Volume, 200)
	}
	for i := range all {
		all[i] = d.Volume(t, harness.Claim{Block: true, Bytes: 4 * mib, Parameters: in()})
	}
	atOnce(t, len(all), func(i int) error {
		if err := inSeries(ctx, all[i].Create); err != nil {
			return err
		}
		_, err := all[i].Expand(ctx, 8*mib)
		return err
	})
	snapshots := make([]*harness.Snapshot, len(all)/10)
	for i := range snapshots {
		snapshots[i] = all[i].Snapshot()
	}
	atOnce(t, len(snapshots), func(i int) error { return harness.Retry(ctx, snapshots[i].Ready) })
	staged := all[:5]
	for i, v := range staged {
		must(t, inSeries(ctx, v.Attach, v.Stage, v.Publish))
		must(t, write(v, harness.Data{Seed: v.Name, Bytes: int64(i+1) * mib}))
	}
	must(t, d.Crash(ctx))
	serving(t, d)
	for i, v := range staged {
		g.mapped(t, v.ID)
		must(t, holds(v, harness.Data{Seed: v.Name, Bytes: int64(i+1) * mib}))
		must(t, inSeries(ctx, v.Unpublish, v.Unstage, v.Detach))
	}
	atOnce(t, len(snapshots), func(i int) error { return harness.Retry(ctx, snapshots[i].Delete) })
	atOnce(t, len(all), func(i int) error { return harness.Retry(ctx, all[i].Delete) })
	must(t, harness.Eventually(ctx, settleLimit, func() error { return g.only() }))
	cookies, err := harness.Tool("dmsetup", "udevcookies")
	must(t, err)
	if strings.Contains(cookies, "0x") {
		t.Errorf("commands wait for udev:\n%s", cookies)
	}
	families, err := d.Metrics(ctx)
	must(t, err)
	for _, m := range families["datastore_csi_command_duration_seconds"].GetMetric() {
		if h := m.GetHistogram(); h.GetSampleCount() > 0 && h.GetSampleSum()/float64(h.GetSampleCount()) > (10*time.Second).Seconds() {
			t.Errorf("commands took %v seconds on average: %v", h.GetSampleSum()/float64(h.GetSampleCount()), m.GetLabel())
		}
	}
}

// only is an error unless the logical volumes of these volumes are all that the group has beside its thin pool.
func (g *group) only(ids ...string) error {
	vg, err := harness.ReadVolumeGroup(g.disks[0].Path)
	if err != nil {
		return err
	}
	left := ids
	for name := range vg.Sections["logical_volumes"] {
		is := func(id string) bool { return strings.HasPrefix(name, id+"-") }
		switch {
		case slices.ContainsFunc(ids, is):
			left = slices.DeleteFunc(slices.Clone(left), is)
		case g.thin == "" || !strings.HasPrefix(name, g.thin) && !strings.HasPrefix(name, "lvol"): // the spare of its metadata
			return fmt.Errorf("logical volume %s is left", name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("nothing is there of %q", left)
	}
	return nil
}

// atOnce makes so many calls, ten at a time.
func atOnce(t *testing.T, calls int, call func(i int) error) {
	t.Helper()
	var all errgroup.Group
	all.SetLimit(10)
	for i := range calls {
		all.Go(func() error { return call(i) })
	}
	must(t, all.Wait())
}
