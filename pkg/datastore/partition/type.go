package partition

import (
	"context"
	"path/filepath"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// Type returns the type for the list in cmd.
func Type() datastore.Type {
	return datastore.Type{Name: v1alpha1.TypePartition, Capabilities: directory.Capabilities, New: open, Retire: retire, Tidy: tidy}
}

// open is the type's New.
func open(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	p, err := openPool(ctx, c)
	if err != nil {
		return nil, fault.Wrap(err, "open datastore", c.Datastore.Name)
	}
	return p, nil
}

func openPool(ctx context.Context, c datastore.Config) (*pool, error) {
	if c.Datastore.Spec.Partition == nil {
		return nil, fault.New(fault.Invalid, "spec.partition is missing")
	}
	p := &pool{
		name: c.Datastore.Name, tools: c.Tools, spec: *c.Datastore.Spec.Partition, inspect: c.Inspect, config: c,
		run: c.Tools.Command, mounts: mount.New(mount.Config{}), mounting: make(chan struct{}, 1),
		inactive: c.Datastore.Spec.State == v1alpha1.StateInactive,
	}
	if c.Inspect {
		return p, p.look(ctx)
	}
	if c.Tools.MountDir == "" || c.Tools.StateDir == "" {
		return nil, fault.New(fault.Internal, "the driver has no folder to mount file systems in")
	}
	p.path = mountPoint(c.Tools, c.Datastore.Name)
	if p.inactive {
		return p, p.adopt(ctx)
	}
	_, err := p.use(ctx)
	return p, err
}

func mountPoint(tools datastore.Tools, name string) string {
	return filepath.Join(tools.MountDir, name)
}
