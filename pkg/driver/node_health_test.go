package driver

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
)

// ill is a Stager whose volume "v" and storage aren't well.
type ill struct{ Stager }

func (ill) Health(_ context.Context, id, staging, target string) ([]v1alpha1.Problem, error) {
	if id != "v" {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return []v1alpha1.Problem{{Status: "DATA_LOSS", Reason: "ImageGone", Message: staging + " " + target}}, nil
}

func (ill) StorageHealth() []stage.StorageProblem {
	return []stage.StorageProblem{{Unreachable: true, Reason: "Unavailable", Message: "gone"}, {Reason: "CriticallyFull", Message: "full"}}
}

func TestTheNodeTellsTheHealthOfVolumesAndStorage(t *testing.T) {
	s := &nodeServer{driver: New(Config{Stager: ill{}})}
	answer, err := s.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: "v", StagingTargetPath: "/s", VolumePublishPath: "/t"})
	if err != nil {
		t.Fatal(err)
	}
	h := answer.GetVolumeHealth()
	if e := h.GetHealthStatuses(); h.GetVolumeId() != "v" || len(e) != 1 || e[0].GetStatus() != csi.VolumeHealthErrorType_DATA_LOSS ||
		e[0].GetReason() != "ImageGone" || e[0].GetMessage() != "/s /t" {
		t.Errorf("volume: %v", h)
	}
	for id, want := range map[string]codes.Code{"": codes.InvalidArgument, "unknown": codes.NotFound} {
		if _, err := s.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: id}); status.Code(err) != want {
			t.Errorf("volume %q: %v, want %v", id, err, want)
		}
	}
	for _, q := range []*csi.NodeGetVolumeHealthRequest{{VolumeId: "v", StagingTargetPath: "s"}, {VolumeId: "v", VolumePublishPath: "./t"}} {
		if _, err := s.NodeGetVolumeHealth(t.Context(), q); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v, want InvalidArgument", q, err)
		}
	}
	storage, err := s.NodeGetStorageHealth(t.Context(), &csi.NodeGetStorageHealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	b := storage.GetBackendHealth()
	if len(b) != 2 || b[0].GetStatus() != csi.StorageHealthErrorType_STORAGE_UNREACHABLE || b[1].GetStatus() != csi.StorageHealthErrorType_STORAGE_DEGRADED ||
		b[0].GetReason() != "Unavailable" || b[1].GetMessage() != "full" {
		t.Errorf("storage: %v", b)
	}
}
