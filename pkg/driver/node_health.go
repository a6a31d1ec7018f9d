package driver

import (
	"context"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

func (s *nodeServer) NodeGetVolumeHealth(ctx context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := needs(req.GetVolumeId()); err != nil {
		return nil, answer(err)
	}
	for _, path := range []string{req.GetStagingTargetPath(), req.GetVolumePublishPath()} {
		if path != "" && !filepath.IsAbs(path) {
			return nil, invalid("path %q is not absolute", path)
		}
	}
	problems, err := s.driver.config.Stager.Health(ctx, req.GetVolumeId(), req.GetStagingTargetPath(), req.GetVolumePublishPath())
	if err != nil {
		return nil, answer(err)
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: volumeHealth(req.GetVolumeId(), problems)}, nil
}

func (s *nodeServer) NodeGetStorageHealth(context.Context, *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	out := &csi.NodeGetStorageHealthResponse{}
	for _, p := range s.driver.config.Stager.StorageHealth() {
		status := csi.StorageHealthErrorType_STORAGE_DEGRADED
		if p.Unreachable {
			status = csi.StorageHealthErrorType_STORAGE_UNREACHABLE
		}
		out.BackendHealth = append(out.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{
			Status: status, Reason: p.Reason, Message: bounded(p.Message),
		})
	}
	return out, nil
}
