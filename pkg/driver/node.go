package driver

import (
	"context"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
)

type nodeServer struct {
	csi.UnimplementedNodeServer
	driver *Driver
}

// generationKey is the one entry of the publish context.
const generationKey = "generation"

func publishContext(generation int64) map[string]string {
	return map[string]string{generationKey: strconv.FormatInt(generation, 10)}
}

func readGeneration(c map[string]string) (int64, error) {
	n, err := strconv.ParseInt(c[generationKey], 10, 64)
	if err != nil {
		return 0, fault.New(fault.Invalid, "the publish context has no number under %q; pass on what ControllerPublishVolume answered", generationKey)
	}
	return n, nil
}

// needs refuses a call that lacks its volume's ID or one of its paths.
func needs(id string, paths ...string) error {
	if err := controller.CheckID(id); err != nil {
		return err
	}
	for i := 0; i+1 < len(paths); i += 2 {
		if paths[i+1] == "" {
			return fault.New(fault.Invalid, "the %s is missing", paths[i])
		}
	}
	return nil
}

func (s *nodeServer) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := needs(req.GetVolumeId(), "staging target path", req.GetStagingTargetPath()); err != nil {
		return nil, answer(err)
	}
	u, err := readCapability(req.GetVolumeCapability())
	if err != nil {
		return nil, answer(err)
	}
	generation, err := readGeneration(req.GetPublishContext())
	if err != nil {
		return nil, answer(err)
	}
	err = s.driver.config.Stager.Stage(ctx, stage.Request{
		ID: req.GetVolumeId(), Generation: generation, Path: req.GetStagingTargetPath(),
		Access: u.access, Mode: u.mode, Filesystem: u.filesystem, MountFlags: u.flags,
	})
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (s *nodeServer) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	err := needs(req.GetVolumeId(), "staging target path", req.GetStagingTargetPath())
	if err == nil {
		err = s.driver.config.Stager.Unstage(ctx, req.GetVolumeId(), req.GetStagingTargetPath())
	}
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (s *nodeServer) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := needs(req.GetVolumeId(), "target path", req.GetTargetPath()); err != nil {
		return nil, answer(err)
	}
	u, err := readCapability(req.GetVolumeCapability())
	if err != nil {
		return nil, answer(err)
	}
	if req.GetStagingTargetPath() == "" {
		// The specification has this code for it (NodePublishVolume, errors).
		return nil, answer(fault.New(fault.Precondition, "the staging target path is missing; volumes are staged first"))
	}
	err = s.driver.config.Stager.Publish(ctx, stage.PublishRequest{
		ID: req.GetVolumeId(), StagingPath: req.GetStagingTargetPath(), Path: req.GetTargetPath(),
		Access: u.access, Mode: u.mode, Filesystem: u.filesystem, MountFlags: u.flags, ReadOnly: req.GetReadonly(),
	})
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (s *nodeServer) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	err := needs(req.GetVolumeId(), "target path", req.GetTargetPath())
	if err == nil {
		err = s.driver.config.Stager.Unpublish(ctx, req.GetVolumeId(), req.GetTargetPath())
	}
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (s *nodeServer) NodeGetVolumeStats(ctx context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := needs(req.GetVolumeId(), "volume path", req.GetVolumePath()); err != nil {
		return nil, answer(err)
	}
	u, err := s.driver.config.Stager.Stats(ctx, req.GetVolumeId(), req.GetVolumePath())
	if err != nil {
		return nil, answer(err)
	}
	out := &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{
		Unit: csi.VolumeUsage_BYTES, Total: u.TotalBytes, Used: u.UsedBytes, Available: u.AvailableBytes,
	}}}
	// btrfs makes inodes as it needs them and has no number of them.
	if !u.Block && u.TotalInodes > 0 {
		out.Usage = append(out.Usage, &csi.VolumeUsage{
			Unit: csi.VolumeUsage_INODES, Total: u.TotalInodes, Used: u.UsedInodes, Available: u.AvailableInodes,
		})
	}
	return out, nil
}

func (s *nodeServer) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := needs(req.GetVolumeId(), "volume path", req.GetVolumePath()); err != nil {
		return nil, answer(err)
	}
	r := byteRange(req.GetCapacityRange())
	if r.Required < 0 || r.Limit < 0 {
		return nil, invalid("a size must not be negative: required %d bytes, limit %d bytes", r.Required, r.Limit)
	}
	if r.Limit > 0 && r.Required > r.Limit {
		return nil, answer(fault.New(fault.OutOfRange, "required are %d bytes, more than the limit of %d bytes", r.Required, r.Limit))
	}
	bytes, err := s.driver.config.Stager.Expand(ctx, req.GetVolumeId(), req.GetVolumePath(), r.Required)
	if err == nil && r.Limit > 0 && bytes > r.Limit {
		err = fault.New(fault.OutOfRange, "volume %q has %d bytes, over the limit of %d bytes; volumes are never made smaller", req.GetVolumeId(), bytes, r.Limit)
	}
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: bytes}, nil
}

func (s *nodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	types := []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
	}
	if s.driver.features.expand {
		types = append(types, csi.NodeServiceCapability_RPC_EXPAND_VOLUME)
	}
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range types {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}

func (s *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	out := &csi.NodeGetInfoResponse{NodeId: s.driver.config.Host, MaxVolumesPerNode: s.driver.config.MaxVolumes}
	if s.driver.features.local {
		out.AccessibleTopology = &csi.Topology{Segments: map[string]string{v1alpha1.TopologyKey: v1alpha1.HostSegment(s.driver.config.Host)}}
	}
	return out, nil
}
