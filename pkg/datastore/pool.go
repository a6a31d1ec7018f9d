// Package datastore says what a type of datastore must be able to do, and keeps the pools that this
// host has open. Each type is one folder below this one.
package datastore

import (
	"context"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// Pool is one datastore as one host sees it. Every method is idempotent, may die anywhere inside and be
// called again, and may be called for different volumes at the same time; the Set sees to it that no
// two calls are about the same volume. Before it changes anything, each makes sure that the storage is
// still the pool that was opened: where its marker is missing or different, the error is
// fault.Unavailable and nothing is touched.
type Pool interface {
	// Status measures the pool. An error means that it cannot be used now, and says why.
	Status(ctx context.Context) (Status, error)

	// Create carves the volume, marks it and makes its file system. What an earlier, broken call left
	// of it is removed first. No space is fault.Exhausted, and nothing is left behind then.
	Create(ctx context.Context, v Volume) (Made, error)

	// Find returns what Create made of the volume. Not there is fault.NotFound, something else in its place
	// fault.Precondition.
	Find(ctx context.Context, v Volume) (Made, error)

	// Expand makes the volume at least v.Bytes large, and tells the kernel where it is attached. It
	// never shrinks. A volume that is not there is fault.NotFound.
	Expand(ctx context.Context, v Volume) (Made, error)

	// Delete takes the volume out of use for good. What is gone is success. A remainder that still
	// takes space may stay, marked as such, until Reclaim.
	Delete(ctx context.Context, v Volume) error

	// Reclaim frees what Delete and broken calls of Create left behind. It resumes where it was
	// interrupted, and never touches a volume.
	Reclaim(ctx context.Context) error

	// Open makes the volume reachable on this host and verifies that it is the volume asked for. Called
	// again it finds what is there and refreshes its size. Another volume or no mark is
	// fault.Precondition, not there fault.NotFound.
	Open(ctx context.Context, v Volume, readOnly bool) (Opened, error)

	// Close undoes Open. It asks the kernel and keeps no count; not open, and still in use by a
	// process, are success: the kernel lets go at the last close.
	Close(ctx context.Context, v Volume) error
}

// Status is what a pool measures of itself. All figures are bytes.
type Status struct {
	// UUID of the pool, from its marker.
	UUID string
	// Total and Used are of the storage below, Free is what it can still take, Own the part of Used
	// that is this pool's volumes and their remainders.
	Total, Used, Own, Free int64
	// Degraded is set where existing volumes can be served but nothing can be made, removed or grown: a
	// file system that is mounted read-only.
	Degraded bool
	// Findings for the administrator.
	Findings []v1alpha1.Finding
}

// Made is what Create and Expand made.
type Made struct {
	// Bytes is the volume's size, never less than asked for.
	Bytes int64
	// Location is the volume's name on the storage.
	Location string
	// Identity is what Open verifies and returns.
	Identity string
}

// Opened is a volume that can be used on this host.
type Opened struct {
	// Device is the path of a block device.
	Device string
	// Bytes is the device's size.
	Bytes int64
	// Identity of what was opened.
	Identity string
	// Discard tells that space given back by the file system is given back to the pool.
	Discard bool
}

// Type is a type of datastore.
type Type struct {
	Name v1alpha1.DatastoreType
	// Capabilities is the upper bound of what pools of this type can do.
	Capabilities func(v1alpha1.DatastoreSpec) Capabilities
	// New opens a pool. It makes the pool's marker where Config.PoolUUID is empty and the storage is
	// blank or the administrator said to initialize it; it adopts a marker of the same cluster and host.
	New func(ctx context.Context, c Config) (Pool, error)
}

// Config is what a type needs to open a pool.
type Config struct {
	// Datastore with its defaults set.
	Datastore *v1alpha1.Datastore
	// ClusterID and MachineID are written into marks and compared with those found.
	ClusterID string
	MachineID string
	// PoolUUID is the UUID that the record holds of this pool, or "" where it never held one.
	PoolUUID string
	// Claims keeps two datastores off one place.
	Claims *Claims
	Tools  Tools
}

// Tools are the facilities of the machine that types share.
type Tools struct {
	Command *command.Runner
	Loop    *loop.Manager
	Now     func() time.Time
	NewUUID func() string
}
