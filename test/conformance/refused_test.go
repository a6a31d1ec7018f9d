package conformance

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// What volumes can't be, as the documentation of their type has it, is refused with a sentence that says what they can be,
// and nothing is changed.
func TestWhatADatastoresVolumesCantBeIsRefused(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx, can := t.Context(), b.Can()
		v := b.Volume(t, blockClaim())
		must(t, v.Create(ctx))
		camera := b.camera()
		before := photograph(t, camera)
		with := func(key, value string) error {
			c := blockClaim()
			c.Parameters = in(pool, key, value)
			return b.Volume(t, c).Create(ctx)
		}
		for _, provisioning := range []string{"thin", "thick"} {
			if !slices.Contains(can.Provisioning, provisioning) {
				refused(t, "a "+provisioning+" volume", with("provisioning", provisioning), code(codes.InvalidArgument), can.Provisioning[0][1:]) // a capital in a spec
			}
		}
		if !can.Images {
			refused(t, "an image", with("format", "image"), code(codes.InvalidArgument), "format")
		}
		if !can.Subdirectories {
			c := harness.Claim{Bytes: 16 * mib, Parameters: in(pool, "format", "subdirectory", "quota", "none")}
			refused(t, "a sub-directory", b.Volume(t, c).Create(ctx), code(codes.InvalidArgument), "format")
		}
		if !can.Snapshots {
			refused(t, "a snapshot", v.Snapshot().Create(ctx), code(codes.InvalidArgument, codes.FailedPrecondition), can.Copiers...)
			listed, err := b.ListedSnapshots(ctx)
			must(t, err)
			if len(listed) > 0 {
				t.Errorf("refused snapshots are listed: %v", listed)
			}
		}
		if !can.Clones {
			c := blockClaim()
			c.From = v.Source()
			refused(t, "a clone", b.Volume(t, c).Create(ctx), code(codes.InvalidArgument, codes.FailedPrecondition), can.Copiers...)
		}
		must(t, camera.Settles(ctx, before, settleLimit))
		must(t, v.Delete(ctx))
	})
}

func makeSnapshots(c rows.Can) bool { return c.Snapshots }

func makeClones(c rows.Can) bool { return c.Clones }
