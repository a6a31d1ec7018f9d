package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// holdSnapshot makes the call the only one about a snapshot.
func (s *controllerServer) holdSnapshot(id string) (release func(), err error) {
	return s.inFlight.hold(datastore.Volume{ID: id, Snapshot: true}.Key())
}

func (s *controllerServer) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if req.GetName() == "" {
		return nil, invalid("the snapshot name is missing")
	}
	if err := controller.CheckID(req.GetSourceVolumeId()); err != nil {
		return nil, answer(err)
	}
	release, err := s.holdSnapshot(controller.SnapshotID(req.GetName()))
	if err != nil {
		return nil, err
	}
	defer release()
	made, err := s.driver.config.Controller.CreateSnapshot(ctx, controller.SnapshotRequest{
		Name: req.GetName(), Volume: req.GetSourceVolumeId(), Parameters: req.GetParameters(),
		Topology: topology(req.GetAccessibilityRequirements()),
	})
	if err != nil {
		return nil, answer(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(made)}, nil
}

func snapshot(s *v1alpha1.DatastoreSnapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: s.Name, SourceVolumeId: s.Spec.Volume, SizeBytes: controller.RestoreSize(s),
		CreationTime: timestamppb.New(controller.TakenAt(s)), ReadyToUse: controller.ReadyToUse(s),
		AccessibleTopology: accessible(s.Spec.Worker.Host),
	}
}

func (s *controllerServer) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if err := controller.CheckSnapshotID(req.GetSnapshotId()); err != nil {
		return nil, answer(err)
	}
	release, err := s.holdSnapshot(req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.driver.config.Controller.DeleteSnapshot(ctx, req.GetSnapshotId()); err != nil {
		return nil, answer(err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

func (s *controllerServer) GetSnapshot(ctx context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	found, err := s.driver.config.Controller.Snapshot(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, answer(err)
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshot(found)}, nil
}

func (s *controllerServer) ListSnapshots(ctx context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	page, err := s.driver.config.Controller.ListSnapshots(ctx,
		controller.SnapshotFilter{ID: req.GetSnapshotId(), Volume: req.GetSourceVolumeId()}, req.GetStartingToken(), int(req.GetMaxEntries()))
	if err != nil {
		return nil, answer(err)
	}
	out := &csi.ListSnapshotsResponse{NextToken: page.Next}
	for _, found := range page.Entries {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(found)})
	}
	return out, nil
}
