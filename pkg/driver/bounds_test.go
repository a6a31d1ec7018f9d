package driver

import (
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRequestsThatAreTooLargeAreRefused(t *testing.T) {
	large := map[string]string{"key": strings.Repeat("x", maxMapBytes-2)}
	fits := map[string]string{"key": strings.Repeat("x", maxMapBytes-3)}
	for name, c := range map[string]struct {
		req     any
		refused bool
	}{
		"parameters of a volume":         {&csi.CreateVolumeRequest{Parameters: large}, true},
		"mutable parameters of a volume": {&csi.CreateVolumeRequest{MutableParameters: large}, true},
		"mutable parameters":             {&csi.ControllerModifyVolumeRequest{MutableParameters: large}, true},
		"parameters of a snapshot":       {&csi.CreateSnapshotRequest{Parameters: large}, true},
		"parameters to confirm":          {&csi.ValidateVolumeCapabilitiesRequest{Parameters: large}, true},
		"a volume context":               {&csi.NodeStageVolumeRequest{VolumeContext: large}, true},
		"a publish context":              {&csi.NodePublishVolumeRequest{PublishContext: large}, true},
		"as many as are allowed":         {&csi.CreateVolumeRequest{Parameters: fits, MutableParameters: fits}, false},
		"secrets, which nobody repeats":  {&csi.CreateVolumeRequest{Secrets: large}, false},
		"a question about capacity":      {&csi.GetCapacityRequest{Parameters: large}, false},
		"a call that has none":           {&csi.DeleteVolumeRequest{VolumeId: "v"}, false},
	} {
		_, err := bound(t.Context(), c.req, nil, func(context.Context, any) (any, error) { return nil, nil })
		if (status.Code(err) == codes.InvalidArgument) != c.refused || (err != nil && len(err.Error()) > 200) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
