package standalone

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
)

const (
	machineFile      = "machine-id"
	machineFileMode  = 0o444
	maxMachineIDSize = 256
)

// machine is what identifies this machine and its present run.
type machine struct{ id, bootID string }

// identify reads the machine's IDs. A machine without a machine-id (a minimal image) gets one that is kept
// in the state directory.
func identify(ctx context.Context, h *host.Host, state *file.Root) (machine, error) {
	bootID, err := h.BootID()
	if err != nil {
		return machine{}, err
	}
	// One that was kept stays the machine's, also where it has got another since: pools are marked with it.
	kept, err := state.ReadFile(machineFile, maxMachineIDSize)
	if err == nil {
		return machine{strings.TrimSpace(string(kept)), bootID}, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return machine{}, err
	}
	id, err := h.MachineID()
	if err == nil || !fault.Is(err, fault.Precondition) {
		return machine{id, bootID}, err
	}
	id = strings.ReplaceAll(uuid.NewString(), "-", "")
	klog.FromContext(ctx).Info("This machine has no machine-id; one is kept in the state directory", "id", id, "why", err.Error())
	return machine{id, bootID}, state.WriteFile(ctx, machineFile, []byte(id+"\n"), machineFileMode)
}
