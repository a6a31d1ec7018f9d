package conformance

import (
	"context"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// claims are a volume with each file system, and a raw one.
func claims() []harness.Claim {
	return []harness.Claim{claim("ext4"), claim("xfs"), claim("btrfs"), blockClaim()}
}

// kindOf names a claim in a test.
func kindOf(c harness.Claim) string {
	if c.Block {
		return "block"
	}
	return c.Filesystem
}

// inUse makes a volume and leaves it published, with some data in it.
func inUse(t *testing.T, b bench, c harness.Claim, d harness.Data) *harness.Volume {
	t.Helper()
	v := b.Volume(t, c)
	must(t, v.Up(t.Context()))
	must(t, store(v, d, 0))
	return v
}

// standBack takes a volume from its pod where the pool can't copy what is in use.
func standBack(ctx context.Context, b bench, v *harness.Volume) error {
	if b.Can().CopiesInUse {
		return nil
	}
	return inSeries(ctx, v.Unpublish, v.Unstage, v.Detach)
}

// comeBack undoes standBack.
func comeBack(ctx context.Context, b bench, v *harness.Volume) error {
	if b.Can().CopiesInUse {
		return nil
	}
	return inSeries(ctx, v.Attach, v.Stage, v.Publish)
}

func inSeries(ctx context.Context, calls ...func(context.Context) error) error {
	for _, call := range calls {
		if err := call(ctx); err != nil {
			return err
		}
	}
	return nil
}

// snapshotOf takes a snapshot of a volume and waits until it can be restored.
func snapshotOf(t *testing.T, v *harness.Volume) *harness.Snapshot {
	t.Helper()
	s := v.Snapshot()
	must(t, s.Ready(withLimit(t, settleLimit)))
	return s
}

// copyOf makes a volume of a source, of a size, and publishes it.
func copyOf(t *testing.T, b bench, c harness.Claim, from *csi.VolumeContentSource, bytes int64) *harness.Volume {
	t.Helper()
	c.Name, c.From, c.Bytes = "", from, bytes
	v := b.Volume(t, c)
	must(t, harness.Retry(withLimit(t, settleLimit), v.Create))
	must(t, inSeries(t.Context(), v.Attach, v.Stage, v.Publish))
	return v
}

// TestASnapshotHoldsWhatItsVolumeHeld restores larger, on the node where the volume is mounted.
func TestASnapshotHoldsWhatItsVolumeHeld(t *testing.T) {
	onBenchesThat(t, makeSnapshots, func(t *testing.T, b bench) {
		for _, c := range claims() {
			t.Run(kindOf(c), func(t *testing.T) { snapshotLife(t, b, c) })
		}
	})
}

func snapshotLife(t *testing.T, b bench, c harness.Claim) {
	ctx := t.Context()
	camera := b.camera()
	before := photograph(t, camera)
	old, later := harness.Data{Seed: "old", Bytes: mib}, harness.Data{Seed: "later", Bytes: mib}
	v := inUse(t, b, c, old)
	must(t, standBack(ctx, b, v))
	s := snapshotOf(t, v)
	if s.Answer.GetSourceVolumeId() != v.ID || s.Size != v.Size || s.Answer.GetCreationTime() == nil {
		t.Errorf("the snapshot of volume %s with %d bytes is %v", v.ID, v.Size, s.Answer)
	}
	if hosts := s.Answer.GetAccessibleTopology(); len(hosts) != 1 || hosts[0].GetSegments()["datastore-csi.io/host"] != b.Host {
		t.Errorf("the snapshot of a local volume is usable from %v", hosts)
	}
	must(t, comeBack(ctx, b, v))
	must(t, store(v, later, 2*mib))

	restored := copyOf(t, b, c, s.Source(), 2*v.Size)
	if restored.Answer.GetContentSource().GetSnapshot().GetSnapshotId() != s.ID {
		t.Errorf("the restored volume's content source is %v", restored.Answer.GetContentSource())
	}
	must(t, holds(restored, old, 0))
	if err := holds(restored, later, 2*mib); err == nil {
		t.Error("the restored volume holds what was written after the snapshot")
	}
	seen, err := visible(restored)
	must(t, err)
	if seen < v.Size*3/2 {
		t.Errorf("restored with twice %d bytes, the pod sees %d", v.Size, seen)
	}
	// The copy is a volume of its own.
	own := harness.Data{Seed: "own", Bytes: mib}
	must(t, store(restored, own, 4*mib))
	must(t, holds(v, old, 0))
	must(t, holds(v, later, 2*mib))

	must(t, v.Down(ctx))
	must(t, s.Delete(ctx))
	must(t, s.Delete(ctx))
	must(t, holds(restored, old, 0))
	must(t, restored.Down(ctx))
	must(t, camera.Settles(ctx, before, settleLimit))
}

// TestACloneAndItsOriginAreUsedSideBySide clones a clone, too.
func TestACloneAndItsOriginAreUsedSideBySide(t *testing.T) {
	onBenchesThat(t, makeClones, func(t *testing.T, b bench) {
		for _, c := range claims() {
			t.Run(kindOf(c), func(t *testing.T) {
				ctx := t.Context()
				old := harness.Data{Seed: "old", Bytes: mib}
				chain := []*harness.Volume{inUse(t, b, c, old)}
				for i := range 2 {
					origin := chain[i]
					must(t, standBack(ctx, b, origin))
					clone := copyOf(t, b, c, origin.Source(), origin.Size)
					must(t, comeBack(ctx, b, origin))
					must(t, store(clone, harness.Data{Seed: fmt.Sprint("clone ", i), Bytes: mib}, int64(i+1)*2*mib))
					chain = append(chain, clone)
				}
				for _, v := range chain {
					must(t, holds(v, old, 0))
				}
				must(t, holds(chain[2], harness.Data{Seed: "clone 0", Bytes: mib}, 2*mib))
				if err := holds(chain[0], harness.Data{Seed: "clone 0", Bytes: mib}, 2*mib); err == nil {
					t.Error("what was written to the clone is in its origin")
				}
				for _, v := range chain { // the origin goes first
					must(t, v.Down(ctx))
				}
			})
		}
	})
}

// TestWhatIsInUseIsCopiedOrRefused: a type that can't copy what is written to says so, and says what can.
func TestWhatIsInUseIsCopiedOrRefused(t *testing.T) {
	copyAtRest := func(c rows.Can) bool { return c.Clones && !c.CopiesInUse } // the tests above do the others
	onBenchesThat(t, copyAtRest, func(t *testing.T, b bench) {
		ctx := t.Context()
		camera := b.camera()
		before := photograph(t, camera)
		d := harness.Data{Seed: "in use", Bytes: mib}
		v := inUse(t, b, claim("ext4"), d)
		for _, state := range []struct {
			name string
			back func(context.Context) error
		}{{"published", nil}, {"staged", v.Unpublish}, {"attached", v.Unstage}} {
			if state.back != nil {
				must(t, state.back(ctx))
			}
			if b.Can().Snapshots {
				s := v.Snapshot()
				refused(t, "snapshot while "+state.name, s.Create(ctx), code(codes.FailedPrecondition), append(b.Can().Copiers, v.ID)...)
			}
			c := claim("ext4")
			c.From = v.Source()
			clone := b.Volume(t, c)
			refused(t, "clone while "+state.name, clone.Create(ctx), code(codes.FailedPrecondition), append(b.Can().Copiers, v.ID)...)
		}
		listed, err := b.ListedSnapshots(ctx)
		must(t, err)
		if len(listed) > 0 {
			t.Errorf("refused snapshots are listed: %v", listed)
		}
		must(t, inSeries(ctx, v.Stage, v.Publish))
		must(t, holds(v, d, 0))
		must(t, v.Down(ctx))
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}

// TestACopyIsRefusedThatCantBe changes nothing.
func TestACopyIsRefusedThatCantBe(t *testing.T) {
	onBenchesThat(t, makeSnapshots, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		s := snapshotOf(t, v)
		gone := &harness.Snapshot{Client: b.Client, ID: harness.NewSnapshotName()}
		tests := []struct {
			name  string
			alter func(*harness.Claim)
			want  []codes.Code
			says  []string
		}{
			{"into a smaller one", func(c *harness.Claim) { c.Bytes, c.Limit = v.Size/2, v.Size/2 }, code(codes.OutOfRange), []string{fmt.Sprint(v.Size)}},
			{"of another file system", func(c *harness.Claim) { c.Filesystem = "xfs" }, code(codes.InvalidArgument), []string{"ext4", "xfs"}},
			{"as a block device", func(c *harness.Claim) { c.Filesystem, c.Block = "", true }, code(codes.InvalidArgument), nil},
			{"with mkfs options", func(c *harness.Claim) { c.Parameters["mkfsOptions"] = "-m 0" }, code(codes.InvalidArgument), []string{"mkfsOptions"}},
			{"to an unknown datastore", func(c *harness.Claim) { c.Parameters["datastore"] = "elsewhere" }, code(codes.InvalidArgument), nil},
			{"of a snapshot that isn't there", func(c *harness.Claim) { c.From = gone.Source() }, code(codes.NotFound), []string{gone.ID}},
			{"of a volume that isn't there", func(c *harness.Claim) { c.From = (&harness.Volume{ID: harness.NewName()}).Source() }, code(codes.NotFound), nil},
			{"of a source without an ID", func(c *harness.Claim) { c.From = (&harness.Volume{}).Source() }, code(codes.InvalidArgument, codes.NotFound), nil},
			{"of nothing at all", func(c *harness.Claim) { c.From = &csi.VolumeContentSource{} }, code(codes.InvalidArgument), nil},
		}
		for _, test := range tests {
			c := claim("ext4")
			c.From, c.Bytes = s.Source(), v.Size
			test.alter(&c)
			copied := b.Volume(t, c)
			refused(t, "a copy "+test.name, copied.Create(ctx), test.want, test.says...)
			if listed, err := b.Listed(ctx); err != nil || len(listed) != 1 {
				t.Errorf("after a copy %s %d volumes are listed (%v)", test.name, len(listed), err)
			}
		}
		must(t, v.Delete(ctx))
		must(t, s.Delete(ctx))
	})
}

// TestARepeatedSnapshotIsTheSame and one of another volume under its name is refused.
func TestARepeatedSnapshotIsTheSame(t *testing.T) {
	onBenchesThat(t, makeSnapshots, func(t *testing.T, b bench) {
		ctx := t.Context()
		v, other := b.Volume(t, blockClaim()), b.Volume(t, blockClaim())
		must(t, inSeries(ctx, v.Create, other.Create))
		s := snapshotOf(t, v)
		first := s.Answer
		must(t, s.Create(ctx))
		if s.Answer.String() != first.String() {
			t.Errorf("the repeat answers %v, the first call %v", s.Answer, first)
		}
		stranger := other.Snapshot()
		stranger.Name = s.Name
		refused(t, "the name for another volume", stranger.Create(ctx), code(codes.AlreadyExists), s.ID)
		bad := v.Snapshot()
		bad.Parameters = map[string]string{"colour": "red"}
		refused(t, "an unknown parameter", bad.Create(ctx), code(codes.InvalidArgument), "colour")
		must(t, s.Delete(ctx))
		must(t, inSeries(ctx, v.Delete, other.Delete))
		refused(t, "a snapshot of what is gone", v.Snapshot().Create(ctx), code(codes.NotFound), v.ID)
	})
}
