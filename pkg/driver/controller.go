package driver

import (
	"context"
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

type controllerServer struct {
	csi.UnimplementedControllerServer
	driver   *Driver
	inFlight *inFlight
}

// hold validates a volume's ID and makes the call the only one about it.
func (s *controllerServer) hold(id string) (release func(), err error) {
	if err := controller.CheckID(id); err != nil {
		return nil, answer(err)
	}
	return s.inFlight.hold(id)
}

func (s *controllerServer) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	q, err := createRequest(req)
	if err != nil {
		return nil, answer(err)
	}
	release, err := s.inFlight.hold(controller.VolumeID(q.Name))
	if err != nil {
		return nil, err
	}
	defer release()
	v, err := s.driver.config.Controller.Create(ctx, q)
	if err != nil {
		return nil, answer(err)
	}
	return &csi.CreateVolumeResponse{Volume: volume(v)}, nil
}

func createRequest(req *csi.CreateVolumeRequest) (controller.CreateRequest, error) {
	q := controller.CreateRequest{
		Name: req.GetName(), Range: byteRange(req.GetCapacityRange()), Parameters: req.GetParameters(), Mutable: req.GetMutableParameters(),
	}
	if q.Name == "" {
		return q, fault.New(fault.Invalid, "the volume name is missing")
	}
	if from := req.GetVolumeContentSource(); from != nil {
		q.Source = source(from)
	}
	want, err := readCapabilities(req.GetVolumeCapabilities())
	q.Access, q.Filesystem, q.MountFlags = want.access, want.filesystem, want.flags
	q.Topology = topology(req.GetAccessibilityRequirements())
	return q, err
}

// source reads what a volume is to be a copy of. What names nothing is refused by the domain.
func source(from *csi.VolumeContentSource) *controller.Source {
	switch t := from.GetType().(type) {
	case *csi.VolumeContentSource_Snapshot:
		return &controller.Source{Kind: v1alpha1.SourceSnapshot, ID: t.Snapshot.GetSnapshotId()}
	case *csi.VolumeContentSource_Volume:
		return &controller.Source{Kind: v1alpha1.SourceVolume, ID: t.Volume.GetVolumeId()}
	}
	return &controller.Source{}
}

// contentSource is the inverse of source.
func contentSource(from *v1alpha1.VolumeSource) *csi.VolumeContentSource {
	switch {
	case from == nil:
		return nil
	case from.Kind == v1alpha1.SourceSnapshot:
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: from.Name},
		}}
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: from.Name},
	}}
}

func byteRange(r *csi.CapacityRange) controller.Range {
	return controller.Range{Required: r.GetRequiredBytes(), Limit: r.GetLimitBytes()}
}

func volume(v *v1alpha1.DatastoreVolume) *csi.Volume {
	return &csi.Volume{
		VolumeId: v.Name, CapacityBytes: v.Status.Worker.Size.Value(), AccessibleTopology: accessible(v.Spec.Worker.Host),
		ContentSource: contentSource(v.Spec.Source),
	}
}

func (s *controllerServer) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	release, err := s.hold(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.driver.config.Controller.Delete(ctx, req.GetVolumeId()); err != nil {
		return nil, answer(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (s *controllerServer) ControllerPublishVolume(ctx context.Context, req *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	u, err := readCapability(req.GetVolumeCapability())
	if err != nil {
		return nil, answer(err)
	}
	if req.GetNodeId() == "" {
		return nil, invalid("the node ID is missing")
	}
	release, err := s.hold(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	generation, err := s.driver.config.Controller.Publish(ctx, controller.PublishRequest{
		ID: req.GetVolumeId(), Host: req.GetNodeId(), Use: u.domain(),
		ReadOnly: req.GetReadonly(), MaxVolumes: s.driver.config.MaxVolumes,
	})
	if err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: publishContext(generation)}, nil
}

func (s *controllerServer) ControllerUnpublishVolume(ctx context.Context, req *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	release, err := s.hold(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.driver.config.Controller.Unpublish(ctx, req.GetVolumeId(), req.GetNodeId()); err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

func (s *controllerServer) ValidateVolumeCapabilities(ctx context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := controller.CheckID(req.GetVolumeId()); err != nil {
		return nil, answer(err)
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, invalid("the volume capabilities are missing")
	}
	v, err := s.driver.config.Controller.Get(ctx, req.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	if lacks := s.unsupported(ctx, v, req); lacks != "" {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: lacks}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: req.GetVolumeContext(), VolumeCapabilities: req.GetVolumeCapabilities(),
		Parameters: req.GetParameters(), MutableParameters: req.GetMutableParameters(),
	}}, nil
}

// unsupported says what of a question a volume does not have; "" is nothing.
func (s *controllerServer) unsupported(ctx context.Context, v *v1alpha1.DatastoreVolume, req *csi.ValidateVolumeCapabilitiesRequest) string {
	switch {
	case len(req.GetVolumeContext()) > 0:
		return "the volume context of a volume is empty"
	case len(req.GetParameters()) > 0:
		if err := controller.SameParameters(v, req.GetParameters()); err != nil {
			return err.Error()
		}
	}
	if err := s.driver.config.Controller.CanBecome(ctx, v, req.GetMutableParameters()); err != nil {
		return err.Error()
	}
	for _, c := range req.GetVolumeCapabilities() {
		u, err := readCapability(c)
		if err == nil {
			err = controller.Supports(v, u.domain())
		}
		if err == nil && !single(u.mode) {
			err = fault.New(fault.Invalid, "volume %q is reached by host %q only, which access mode %s does not allow", v.Name, v.Spec.Worker.Host, u.mode)
		}
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

func (s *controllerServer) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	page, err := s.driver.config.Controller.List(ctx, req.GetStartingToken(), int(req.GetMaxEntries()))
	if err != nil {
		return nil, answer(err)
	}
	out := &csi.ListVolumesResponse{NextToken: page.Next, Entries: make([]*csi.ListVolumesResponse_Entry, 0, len(page.Entries))}
	for _, v := range page.Entries {
		out.Entries = append(out.Entries, &csi.ListVolumesResponse_Entry{
			Volume: volume(v),
			Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: published(v)},
		})
	}
	return out, nil
}

// published are the nodes that a volume is published to, sorted.
func published(v *v1alpha1.DatastoreVolume) []string {
	return slices.Sorted(maps.Keys(v.Spec.Attachments))
}

func (s *controllerServer) ControllerGetVolume(ctx context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	v, err := s.driver.config.Controller.GetReady(ctx, req.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: volume(v), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: published(v)},
	}, nil
}

func (s *controllerServer) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	release, err := s.hold(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.driver.config.Controller.Modify(ctx, req.GetVolumeId(), req.GetMutableParameters()); err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}

// GetCapacity answers from the records, and never with an error: what cannot be made has no room.
func (s *controllerServer) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	var c controller.Capacity
	if q, ok := capacityRequest(req); ok {
		c = s.driver.config.Controller.Capacity(ctx, q)
	}
	out := &csi.GetCapacityResponse{AvailableCapacity: c.Available, MaximumVolumeSize: wrapperspb.Int64(c.Largest)}
	if c.Smallest > 0 {
		out.MinimumVolumeSize = wrapperspb.Int64(c.Smallest)
	}
	return out, nil
}

// capacityRequest tells what is asked, and whether volumes like that can be at all.
func capacityRequest(req *csi.GetCapacityRequest) (controller.CapacityRequest, bool) {
	q := controller.CapacityRequest{
		Parameters: req.GetParameters(), Access: v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem},
	}
	if t := req.GetAccessibleTopology(); t != nil {
		q.Requisite = hosts([]*csi.Topology{t})
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return q, true
	}
	want, err := readCapabilities(req.GetVolumeCapabilities())
	q.Access, q.Filesystem = want.access, want.filesystem
	return q, err == nil
}

func (s *controllerServer) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if req.GetCapacityRange() == nil {
		return nil, invalid("the capacity range is missing")
	}
	release, err := s.hold(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	grown, err := s.driver.config.Controller.Expand(ctx, req.GetVolumeId(), byteRange(req.GetCapacityRange()))
	if err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: grown.Bytes, NodeExpansionRequired: grown.OnNode}, nil
}
