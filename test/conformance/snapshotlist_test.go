package conformance

import (
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// TestSnapshotsAreListed by source, by ID and page by page.
func TestSnapshotsAreListed(t *testing.T) {
	onBenchesThat(t, makeSnapshots, func(t *testing.T, b bench) {
		ctx := t.Context()
		v, other := b.Volume(t, blockClaim()), b.Volume(t, blockClaim())
		must(t, inSeries(ctx, v.Create, other.Create))
		var made []*harness.Snapshot
		var ids []string
		for range 5 {
			s := snapshotOf(t, v)
			made, ids = append(made, s), append(ids, s.ID)
		}
		single := snapshotOf(t, other)
		slices.Sort(ids)

		lists := func(what string, q *csi.ListSnapshotsRequest, want ...string) {
			t.Helper()
			answer, err := b.ListSnapshots(ctx, q)
			must(t, err)
			var got []string
			for _, e := range answer.GetEntries() {
				got = append(got, e.GetSnapshot().GetSnapshotId())
			}
			slices.Sort(got)
			if !slices.Equal(got, want) || answer.GetNextToken() != "" {
				t.Errorf("%s: listed are %v (next %q), want %v", what, got, answer.GetNextToken(), want)
			}
		}
		lists("by source", &csi.ListSnapshotsRequest{SourceVolumeId: v.ID}, ids...)
		lists("by another source", &csi.ListSnapshotsRequest{SourceVolumeId: other.ID}, single.ID)
		lists("by ID", &csi.ListSnapshotsRequest{SnapshotId: ids[2]}, ids[2])
		lists("by an ID that isn't there", &csi.ListSnapshotsRequest{SnapshotId: harness.NewSnapshotName()})
		lists("by a hostile ID", &csi.ListSnapshotsRequest{SnapshotId: "../../etc"})
		lists("by a source that isn't there", &csi.ListSnapshotsRequest{SourceVolumeId: harness.NewName()})
		inPages(t, b, append(ids, single.ID))

		_, err := b.ListSnapshots(ctx, &csi.ListSnapshotsRequest{StartingToken: "a stranger's"})
		refused(t, "a stranger's token", err, code(codes.Aborted))
		_, err = b.ListSnapshots(ctx, &csi.ListSnapshotsRequest{MaxEntries: -1})
		refused(t, "minus one entry", err, code(codes.InvalidArgument))

		got, err := b.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: single.ID})
		must(t, err)
		if got.GetSnapshot().String() != single.Answer.String() {
			t.Errorf("GetSnapshot says %v, CreateSnapshot said %v", got.GetSnapshot(), single.Answer)
		}
		for _, s := range append(made, single) {
			must(t, s.Delete(ctx))
		}
		_, err = b.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: single.ID})
		refused(t, "get what is deleted", err, code(codes.NotFound), single.ID)
		must(t, inSeries(ctx, v.Delete, other.Delete))
	})
}

// inPages lists two at a time.
func inPages(t *testing.T, b bench, want []string) {
	t.Helper()
	var got []string
	for token := ""; ; {
		page, err := b.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: 2, StartingToken: token})
		must(t, err)
		if len(page.GetEntries()) > 2 {
			t.Fatalf("%d entries, 2 were asked for", len(page.GetEntries()))
		}
		for _, e := range page.GetEntries() {
			got = append(got, e.GetSnapshot().GetSnapshotId())
		}
		if token = page.GetNextToken(); token == "" {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("in pages %v are listed, want %v", got, want)
	}
}
