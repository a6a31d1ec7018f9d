package partition

import (
	"context"
	"encoding/json"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	folderMode = 0o700
	memoryMode = 0o600
	maxMemory  = 64 << 10

	memorySuffix = ".json"
)

// memory is what the host remembers of a datastore.
type memory struct {
	// UUID and Type of its file system.
	UUID string `json:"uuid"`
	Type string `json:"fsType"`
	// Device as the datastore named it last, for people.
	Device string `json:"device"`
	// Making tells that mkfs was begun with that UUID, and that nothing was mounted since.
	Making bool `json:"making,omitempty"`
}

func (p *pool) memoryName() string { return p.name + memorySuffix }

// recall reads what is remembered; nothing is the zero value.
func (p *pool) recall(ctx context.Context) (memory, error) {
	root, err := file.MakeRoot(ctx, p.tools.StateDir, folderMode)
	if err != nil {
		return memory{}, err
	}
	defer root.Close()
	data, err := root.ReadFile(p.memoryName(), maxMemory)
	if fault.Is(err, fault.NotFound) {
		return memory{}, nil
	}
	if err != nil {
		return memory{}, err
	}
	var m memory
	if err := json.Unmarshal(data, &m); err != nil || m.UUID == "" {
		return memory{}, fault.New(fault.Precondition, "%s/%s says which file system the datastore lies on, and can't be read (%v); "+
			"look at the device, and remove the file where it is the right one", root.Path(), p.memoryName(), err)
	}
	return m, nil
}

// remember writes down what is to be remembered, before the act.
func (p *pool) remember(ctx context.Context, m memory) error {
	root, err := file.MakeRoot(ctx, p.tools.StateDir, folderMode)
	if err != nil {
		return err
	}
	defer root.Close()
	m.Device = p.spec.Device
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return root.WriteFile(ctx, p.memoryName(), append(data, '\n'), memoryMode)
}

// forget removes what is remembered of a datastore.
func forget(ctx context.Context, stateDir, name string) error {
	root, err := file.OpenRoot(stateDir)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	err = root.Unlink(ctx, name+memorySuffix)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Sync(".")
}
