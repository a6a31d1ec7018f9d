package driver

import (
	"reflect"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func aSnapshot(phase v1alpha1.Phase) *v1alpha1.DatastoreSnapshot {
	return &v1alpha1.DatastoreSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: "s", CreationTimestamp: metav1.NewTime(time.Unix(500, 0))},
		Spec:       v1alpha1.DatastoreSnapshotSpec{Volume: "v", Size: v1alpha1.Bytes(7), Worker: v1alpha1.Worker{Host: "node-1"}},
		Status: v1alpha1.DatastoreSnapshotStatus{Worker: v1alpha1.WorkerStatus{
			Phase: phase, Size: v1alpha1.Bytes(9), TakenAt: &metav1.Time{Time: time.Unix(1000, 5)},
		}},
	}
}

func TestASnapshotOnTheWire(t *testing.T) {
	f := &fake{snapshot: aSnapshot(v1alpha1.Ready)}
	s := served(f)
	made, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{
		Name: "s", SourceVolumeId: "v", Parameters: map[string]string{"a": "b"},
		AccessibilityRequirements: &csi.TopologyRequirement{
			Requisite: []*csi.Topology{{Segments: map[string]string{v1alpha1.TopologyKey: "node-1"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := controller.SnapshotRequest{
		Name: "s", Volume: "v", Parameters: map[string]string{"a": "b"}, Topology: controller.Topology{Requisite: []string{"node-1"}},
	}
	if !reflect.DeepEqual(f.asked, asked) {
		t.Errorf("asked was %+v", f.asked)
	}
	got := made.GetSnapshot()
	if got.GetSnapshotId() != "s" || got.GetSourceVolumeId() != "v" || got.GetSizeBytes() != 9 || !got.GetReadyToUse() ||
		!got.GetCreationTime().AsTime().Equal(time.Unix(1000, 0)) || got.GetAccessibleTopology()[0].GetSegments()[v1alpha1.TopologyKey] != "node-1" {
		t.Errorf("answered is %v", got)
	}
	for name, c := range map[string]struct {
		phase v1alpha1.Phase
		ready bool
	}{"while it is copied": {v1alpha1.Creating, false}, "whole": {v1alpha1.Ready, true}} {
		f.snapshot = aSnapshot(c.phase)
		if answer, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: "s"}); err != nil || answer.GetSnapshot().GetReadyToUse() != c.ready {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
	}
	f.snapshot.Spec.Deletion = &v1alpha1.Deletion{}
	if controller.ReadyToUse(f.snapshot) {
		t.Error("a snapshot that is being deleted is ready to use")
	}
}

func TestListSnapshotsOnTheWire(t *testing.T) {
	f := &fake{snapshot: aSnapshot(v1alpha1.Ready), next: "more"}
	answer, err := served(f).ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{
		MaxEntries: 3, StartingToken: "token", SourceVolumeId: "v", SnapshotId: "s",
	})
	if err != nil || len(answer.GetEntries()) != 1 || answer.GetEntries()[0].GetSnapshot().GetSnapshotId() != "s" || answer.GetNextToken() != "more" {
		t.Errorf("answered is %v, %v", answer, err)
	}
	if f.filter != (controller.SnapshotFilter{ID: "s", Volume: "v"}) || f.token != "token" || f.max != 3 {
		t.Errorf("asked was %+v, %q, %d", f.filter, f.token, f.max)
	}
}

func TestSnapshotCallsThatLackSomething(t *testing.T) {
	s := served(&fake{})
	for name, call := range map[string]func() error{
		"create without a name": func() error {
			_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{SourceVolumeId: "v"})
			return err
		},
		"create without a source": func() error {
			_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s"})
			return err
		},
		"create of a hostile source": func() error {
			_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "../v"})
			return err
		},
		"delete without an ID": func() error {
			_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{})
			return err
		},
		"delete of a hostile ID": func() error {
			_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "a/b"})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASecondCallAboutASnapshotIsAborted(t *testing.T) {
	f := &fake{snapshot: aSnapshot(v1alpha1.Ready)}
	s := served(f)
	release, err := s.holdSnapshot("s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "v"}); status.Code(err) != codes.Aborted {
		t.Errorf("create: %v", err)
	}
	if _, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "s"}); status.Code(err) != codes.Aborted {
		t.Errorf("delete: %v", err)
	}
	if other, err := s.hold("s"); err != nil {
		t.Errorf("a volume of the same ID: %v", err)
	} else {
		other()
	}
	release()
	if _, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "s"}); err != nil || f.deleted != "s" {
		t.Errorf("after the first: %v, deleted %q", err, f.deleted)
	}
}

func TestErrorsOfSnapshotsHaveTheirCodes(t *testing.T) {
	s := served(&fake{fails: fault.New(fault.Precondition, "in use")})
	calls := map[string]func() error{
		"create": func() error {
			_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "v"})
			return err
		},
		"delete": func() error {
			_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "s"})
			return err
		},
		"get": func() error {
			_, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: "s"})
			return err
		},
		"list": func() error { _, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{}); return err },
	}
	for name, call := range calls {
		if err := call(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
	}
}
