package parts

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

// Machine is what identifies this machine and its present run.
type Machine struct{ ID, BootID string }

// Identify reads the machine's IDs. A machine without a machine-id (a minimal image) gets one that is kept
// in the state directory.
func Identify(ctx context.Context, h *host.Host, state *file.Root) (Machine, error) {
	m, err := recall(h, state)
	if m.BootID == "" || !fault.Is(err, fault.Precondition) {
		return m, err
	}
	m.ID = strings.ReplaceAll(uuid.NewString(), "-", "")
	klog.FromContext(ctx).Info("This machine has no machine-id; one is kept in the state directory", "id", m.ID, "why", err.Error())
	return m, state.WriteFile(ctx, machineFile, []byte(m.ID+"\n"), machineFileMode)
}

// Recall is Identify without writing anything. A machine that has no machine-id, and for which none is kept, is
// fault.Precondition. The state directory need not be there.
func Recall(h *host.Host, stateDir string) (Machine, error) {
	state, err := file.OpenRoot(stateDir)
	if fault.Is(err, fault.NotFound) {
		return recall(h, nil)
	}
	if err != nil {
		return Machine{}, err
	}
	defer state.Close()
	return recall(h, state)
}

// recall reads the IDs. One that was kept stays the machine's, also where it has got another since: pools are
// marked with it. Only of a machine that has none is the boot ID returned with an error.
func recall(h *host.Host, state *file.Root) (Machine, error) {
	bootID, err := h.BootID()
	if err != nil {
		return Machine{}, err
	}
	if state != nil {
		kept, err := state.ReadFile(machineFile, maxMachineIDSize)
		if err == nil {
			return Machine{strings.TrimSpace(string(kept)), bootID}, nil
		}
		if !fault.Is(err, fault.NotFound) {
			return Machine{}, err
		}
	}
	id, err := h.MachineID()
	return Machine{id, bootID}, err
}
