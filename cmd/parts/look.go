package parts

import (
	"cmp"
	"context"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
)

// Looker looks at pools without a running driver.
type Looker struct {
	Machine   Machine
	ClusterID string
	tools     datastore.Tools
	claims    datastore.Claims
}

// Look is what was found of one datastore.
type Look struct {
	Datastore *v1alpha1.Datastore
	// Pool is open to be looked at; nil where Err says why not.
	Pool  datastore.Pool
	Found []datastore.Found
	// UUID of the pool, and the host that made it.
	UUID, Host string
	Err        error
}

// NewLooker returns a looker for this machine, as the state directory knows it. Without a folder for mounts it can't open more
// than it may look at.
func NewLooker(stateDir, mountDir, clusterID string) (*Looker, error) {
	machine, err := Recall(host.New(host.Config{}), stateDir)
	if err != nil {
		return nil, err
	}
	tools, err := Tools(command.New(command.Config{}))
	if mountDir != "" {
		tools = Folders(tools, stateDir, mountDir, clusterID)
	}
	return &Looker{Machine: machine, ClusterID: clusterID, tools: tools}, err
}

// Look opens the pool of each datastore and lists what lies on it. Nothing is changed.
func (l *Looker) Look(ctx context.Context, datastores []*v1alpha1.Datastore) []Look {
	out := make([]Look, 0, len(datastores))
	for _, d := range datastores {
		look := Look{Datastore: d}
		look.Pool, look.Err = l.Open(ctx, datastore.Config{Datastore: d, Inspect: true})
		if look.Err == nil {
			look.Err = look.list(ctx)
		}
		out = append(out, look)
	}
	slices.SortFunc(out, func(a, b Look) int { return cmp.Compare(a.Datastore.Name, b.Datastore.Name) })
	return out
}

func (l *Look) list(ctx context.Context) error {
	status, err := l.Pool.Status(ctx)
	if err != nil {
		return err
	}
	l.UUID, l.Host = status.UUID, status.Host
	l.Found, err = l.Pool.List(ctx)
	return err
}

// Open opens a pool as a config says, which needs to name the datastore and what is not this machine's alone.
func (l *Looker) Open(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	c.ClusterID, c.MachineID, c.Claims, c.Tools = l.ClusterID, l.Machine.ID, &l.claims, l.tools
	for _, t := range Types() {
		if t.Name == c.Datastore.Spec.Type {
			return t.New(ctx, c)
		}
	}
	return nil, fault.New(fault.Invalid, "type %q is not served by this version", c.Datastore.Spec.Type)
}

// Holder explains that a running driver holds the state directory.
func Holder(err error, instead string) error {
	if fault.Is(err, fault.Busy) {
		return fault.New(fault.Busy, "a driver is running with this state directory: %s; %w", instead, err)
	}
	return err
}
