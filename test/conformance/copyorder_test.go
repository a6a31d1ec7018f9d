package conformance

import (
	"context"
	"fmt"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// TestAFamilyOfCopiesIsDeletedInAnyOrder: a volume, its snapshot, a clone of that, and the clone's snapshot.
func TestAFamilyOfCopiesIsDeletedInAnyOrder(t *testing.T) {
	onBenchesThat(t, makeClones, func(t *testing.T, b bench) {
		camera := b.camera()
		before := photograph(t, camera)
		family := 4
		if !b.Can().Snapshots {
			family = 2
		}
		for n, order := range permutations(family) {
			c := claims()[n%4]
			t.Run(fmt.Sprintf("%v %s", order, kindOf(c)), func(t *testing.T) { deleteFamily(t, b, c, order) })
		}
		must(t, camera.Settles(t.Context(), before, settleLimit))
	})
}

func deleteFamily(t *testing.T, b bench, c harness.Claim, order []int) {
	ctx := t.Context()
	v := b.Volume(t, c)
	must(t, v.Create(ctx))
	var snapshots []func(context.Context) error
	c.From = v.Source()
	if b.Can().Snapshots {
		s := snapshotOf(t, v)
		c.From = s.Source()
		snapshots = append(snapshots, s.Delete)
	}
	clone := b.Volume(t, c)
	must(t, harness.Retry(withLimit(t, settleLimit), clone.Create))
	if b.Can().Snapshots {
		snapshots = append(snapshots, snapshotOf(t, clone).Delete)
	}
	deletes := append([]func(context.Context) error{v.Delete, clone.Delete}, snapshots...)
	for _, n := range order {
		must(t, deletes[n](ctx))
	}
	volumes, err := b.Listed(ctx)
	must(t, err)
	left, err := b.ListedSnapshots(ctx)
	must(t, err)
	if len(volumes)+len(left) > 0 {
		t.Errorf("listed after all are deleted: %v, %v", volumes, left)
	}
}

// permutations gives all orders of n things.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, rest := range permutations(n - 1) {
		for at := range n {
			order := append(append(append([]int{}, rest[:at]...), n-1), rest[at:]...)
			all = append(all, order)
		}
	}
	return all
}

// TestAThickCopyTakesAllItsSpace, whatever it is a copy of.
func TestAThickCopyTakesAllItsSpace(t *testing.T) {
	onBenchesThat(t, func(c rows.Can) bool { return c.Snapshots && c.Thick() }, func(t *testing.T, b bench) {
		for _, kinds := range [][2]string{{"thin", "thick"}, {"thick", "thick"}, {"thick", "thin"}} {
			if !b.Can().Thin() && kinds != [2]string{"thick", "thick"} {
				continue
			}
			t.Run(kinds[0]+" to "+kinds[1], func(t *testing.T) {
				ctx := t.Context()
				c := blockClaim()
				c.Parameters = in(pool, "provisioning", kinds[0])
				d := harness.Data{Seed: "thick", Bytes: mib}
				v := inUse(t, b, c, d)
				must(t, inSeries(ctx, v.Unpublish, v.Unstage, v.Detach))
				s := snapshotOf(t, v)
				c.Parameters = in(pool, "provisioning", kinds[1])
				copied := copyOf(t, b, c, s.Source(), v.Size)
				must(t, holds(copied, d, 0))
				if n, err := b.Allocated(copied.ID); kinds[1] == "thick" && (err != nil || n < copied.Size) {
					t.Errorf("the thick copy of %d bytes takes %d (%v)", copied.Size, n, err)
				}
				must(t, s.Delete(ctx))
				must(t, inSeries(ctx, copied.Down, v.Delete))
			})
		}
	})
}
