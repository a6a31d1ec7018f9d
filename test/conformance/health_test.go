package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// sick tells what the controller says of a volume, by status and reason.
func sick(ctx context.Context, v *harness.Volume) ([]string, error) {
	answer, err := v.Client.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: v.ID})
	if err != nil {
		return nil, err
	}
	return ailments(answer.GetVolumeHealth(), v.ID)
}

// sickHere tells what the node says of a published volume.
func sickHere(ctx context.Context, v *harness.Volume) ([]string, error) {
	answer, err := v.Client.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{
		VolumeId: v.ID, VolumePublishPath: v.Target, StagingTargetPath: v.Staging,
	})
	if err != nil {
		return nil, err
	}
	return ailments(answer.GetVolumeHealth(), v.ID)
}

// ailments are the statuses, each of which must have a reason and a sentence.
func ailments(h *csi.VolumeHealth, id string) ([]string, error) {
	if h.GetVolumeId() != id {
		return nil, fmt.Errorf("health of volume %q, asked for %q", h.GetVolumeId(), id)
	}
	var out []string
	for _, e := range h.GetHealthStatuses() {
		if e.GetReason() == "" || e.GetMessage() == "" {
			return nil, fmt.Errorf("%v lacks its reason or message", e)
		}
		out = append(out, e.GetStatus().String())
	}
	slices.Sort(out)
	return out, nil
}

func TestAHealthyVolumeHasNoAilments(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for _, c := range claims() {
			v := inUse(t, b, c, harness.Data{Seed: "health", Bytes: mib})
			for where, ask := range map[string]func(context.Context, *harness.Volume) ([]string, error){"controller": sick, "node": sickHere} {
				if got, err := ask(ctx, v); err != nil || len(got) > 0 {
					t.Errorf("%s, %s: %v, %v", kindOf(c), where, got, err)
				}
			}
			must(t, v.Down(ctx))
			_, err := sick(ctx, v)
			refused(t, "the controller's health of what is deleted", err, code(codes.NotFound), v.ID)
		}
		listed, err := b.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{})
		must(t, err)
		if len(listed.GetEntries()) > 0 {
			t.Errorf("listed are %v", listed.GetEntries())
		}
		storage, err := b.NodeGetStorageHealth(ctx, &csi.NodeGetStorageHealthRequest{})
		must(t, err)
		if len(storage.GetBackendHealth()) > 0 {
			t.Errorf("the storage is %v", storage.GetBackendHealth())
		}
		_, err = b.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{})
		refused(t, "health of no volume", err, code(codes.InvalidArgument))
	})
}

// TestAVolumeWhoseBytesAreGoneSaysSo, at the latest when the driver starts, and is well again once they are back.
func TestAVolumeWhoseBytesAreGoneSaysSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		well, ill := b.Volume(t, blockClaim()), b.Volume(t, blockClaim())
		must(t, inSeries(ctx, well.Create, ill.Create))
		losses := b.Losses()
		gone := slices.IndexFunc(losses, func(l rows.Loss) bool { return l.Gone })
		bringBack := losses[gone].Do(t, ill.ID)
		must(t, b.Restart(ctx))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			got, err := sick(ctx, ill)
			if err == nil && !slices.Contains(got, csi.VolumeHealthErrorType_DATA_LOSS.String()) {
				err = fmt.Errorf("a volume without its content is %v", got)
			}
			return err
		}))
		listed, err := b.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{})
		must(t, err)
		if len(listed.GetEntries()) != 1 || listed.GetEntries()[0].GetVolumeId() != ill.ID {
			t.Errorf("the abnormal volumes are %v, not just %s", listed.GetEntries(), ill.ID)
		}
		bringBack()
		must(t, b.Restart(ctx))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			got, err := sick(ctx, ill)
			if err == nil && len(got) > 0 {
				err = fmt.Errorf("a volume that is whole again is %v", got)
			}
			return err
		}))
		must(t, inSeries(ctx, well.Delete, ill.Delete))
	})
}

// TestStorageThatIsGoneSaysSo, on its node and for its volumes.
func TestStorageThatIsGoneSaysSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, blockClaim())
		must(t, v.Create(ctx))
		bringBack := b.TakeAway(t)
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			storage, err := b.NodeGetStorageHealth(ctx, &csi.NodeGetStorageHealthRequest{})
			if err != nil {
				return err
			}
			for _, s := range storage.GetBackendHealth() {
				if s.GetStatus() == csi.StorageHealthErrorType_STORAGE_UNREACHABLE && s.GetReason() != "" && s.GetMessage() != "" {
					return nil
				}
			}
			return fmt.Errorf("the storage is %v", storage.GetBackendHealth())
		}))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			got, err := sick(ctx, v)
			if err == nil && !slices.Contains(got, csi.VolumeHealthErrorType_INACCESSIBLE.String()) {
				err = fmt.Errorf("a volume without its storage is %v", got)
			}
			return err
		}))
		bringBack()
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			got, err := sick(ctx, v)
			if err == nil && len(got) > 0 {
				err = fmt.Errorf("a volume whose storage is back is %v", got)
			}
			return err
		}))
		must(t, harness.Eventually(ctx, settleLimit, func() error { return v.Delete(ctx) }))
	})
}

// TestAFileSystemThatTurnedReadOnlySaysSo, on the node that has it mounted.
func TestAFileSystemThatTurnedReadOnlySaysSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := inUse(t, b, claim("ext4"), harness.Data{Seed: "read-only", Bytes: mib})
		must(t, harness.Run("mount", "-o", "remount,ro", v.Staging)) // as the kernel does after an error
		got, err := sickHere(ctx, v)
		if err != nil || len(got) == 0 {
			t.Errorf("a file system that turned read-only is %v, %v", got, err)
		}
		must(t, v.Down(ctx))
		must(t, harness.Eventually(ctx, settleLimit, func() error { _, err := b.Listed(ctx); return err }))
	})
}
