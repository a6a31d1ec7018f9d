package driver

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

func (s *controllerServer) ControllerGetVolumeHealth(ctx context.Context, req *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	h, err := s.driver.config.Controller.Health(ctx, req.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: volumeHealth(h.ID, h.Problems)}, nil
}

func (s *controllerServer) ControllerListVolumeHealth(ctx context.Context, req *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	page, err := s.driver.config.Controller.ListHealth(ctx, req.GetStartingToken(), int(req.GetMaxEntries()))
	if err != nil {
		return nil, answer(err)
	}
	out := &csi.ControllerListVolumeHealthResponse{NextToken: page.Next}
	for _, h := range page.Entries {
		out.Entries = append(out.Entries, volumeHealth(h.ID, h.Problems))
	}
	return out, nil
}

// volumeHealth is what is wrong with a volume. A status that this version does not know is one that is unknown.
func volumeHealth(id string, problems []v1alpha1.Problem) *csi.VolumeHealth {
	out := &csi.VolumeHealth{VolumeId: id}
	for _, p := range problems {
		out.HealthStatuses = append(out.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{
			Status: csi.VolumeHealthErrorType(csi.VolumeHealthErrorType_value[string(p.Status)]), Reason: p.Reason, Message: bounded(p.Message),
		})
	}
	return out
}

// maxHealthMessage bounds a sentence on health, in bytes. The specification's bound of a string (128, Size Limits) is too
// small for what was found and what to do; this one keeps an answer about many datastores or paths small.
const maxHealthMessage = 1 << 10

// bounded cuts a sentence that is too long, between two characters.
func bounded(message string) string {
	const more = "..."
	if len(message) <= maxHealthMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxHealthMessage-len(more)], "") + more
}
