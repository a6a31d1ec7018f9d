// Package datastore says what a type of datastore must be able to do, and keeps the pools that this
// host has open. Each type is one folder below this one.
package datastore

import (
	"context"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
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

	// List returns everything that bears our cluster's mark, and what waits for its removal; in no order.
	List(ctx context.Context) ([]Found, error)

	// Create carves the volume, marks it and makes its file system, or copies all of from where that is
	// not nil. What an earlier, broken call left of it is removed first, or gone on with where it is a
	// copy. No space is fault.Exhausted, and nothing is left behind then.
	//
	// A copy that takes long tells progress how far it is, and ends with ctx. A source that must not be
	// in use while it is copied, and is, is fault.Precondition; one that is gone fault.NotFound.
	Create(ctx context.Context, v Volume, from *Volume, progress Progress) (Made, error)

	// Snapshot makes snap (Volume.Snapshot is set) of a volume, as Create makes a copy: what of holds at
	// one instant, Made.TakenAt.
	Snapshot(ctx context.Context, of, snap Volume, progress Progress) (Made, error)

	// Find returns what Create or Snapshot made. Not there is fault.NotFound, something else in its place
	// fault.Precondition.
	Find(ctx context.Context, v Volume) (Made, error)

	// Expand makes the volume at least v.Bytes large, tells the kernel where it is attached, and has the mark say
	// v.OnDelete and v.Wipe. It never shrinks. A volume that is not there is fault.NotFound.
	Expand(ctx context.Context, v Volume) (Made, error)

	// Delete takes the volume or snapshot out of use for good, as d says. What is gone is success. A
	// remainder that still takes space may stay, marked as such, until Reclaim.
	Delete(ctx context.Context, v Volume, d Disposal) error

	// Reclaim wipes, where that was ordered, and frees what Delete and broken calls of Create left
	// behind. It resumes where it was interrupted, and never touches a volume.
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
	// Host that made the marker, or "" where it does not say.
	Host string
	// Total and Used are of the storage below, Free is what it can still take, Own the part of Used
	// that is promised to volumes and snapshots: what waits for its removal, is kept without a record or is
	// unclear is not. It may be too small, and is never too large.
	Total, Used, Own, Free int64
	// Largest is the most that a single volume or its growth can take now, where that may be less than Free; else 0.
	Largest int64
	// Degraded is set where existing volumes can be served but nothing can be made, removed or grown: a
	// file system that is mounted read-only.
	Degraded bool
	// Features that hold here, sorted.
	Features []v1alpha1.Feature
	// Findings for the administrator.
	Findings []v1alpha1.Finding
}

// Progress is told how many bytes of a copy are done, of how many in all. It returns at once.
type Progress func(done, total int64)

// Disposal says what becomes of a volume's bytes.
type Disposal struct {
	Policy v1alpha1.DeletePolicy
	Wipe   v1alpha1.WipePolicy
}

// Found is something on the storage that bears our cluster's mark.
type Found struct {
	// Volume as its mark describes it. Bytes is what the storage holds where that is less.
	Volume Volume
	// Source of a copy or snapshot, by its ID and UID; nil where there was none.
	Source *Volume
	// State of it.
	State FoundState
	Made  Made
	// Location on the storage, and the bytes that it takes there.
	Location  string
	Allocated int64
	// Datastore that the mark's pool belongs to by its marker.
	Datastore string
	// Problems that were found with it, such as an image that is gone.
	Problems []v1alpha1.Problem
}

// FoundState says in which state something was found on the storage.
type FoundState string

// The states of what is found.
const (
	// FoundWhole is a volume or snapshot.
	FoundWhole FoundState = "Whole"
	// FoundUnclear bears a mark that can't be read, or one of another cluster: it is left alone.
	FoundUnclear FoundState = "Unclear"
	// FoundRemainder waits to be wiped and freed.
	FoundRemainder FoundState = "Remainder"
	// FoundArchived was kept when its volume was deleted.
	FoundArchived FoundState = "Archived"
	// FoundRetained was left in its place when its volume was deleted.
	FoundRetained FoundState = "Retained"
)

// Made is what Create, Snapshot and Expand made.
type Made struct {
	// Bytes is the volume's size, never less than asked for.
	Bytes int64
	// Location is the volume's name on the storage.
	Location string
	// Identity is what Open verifies and returns.
	Identity string
	// Promised is how many bytes a snapshot can take at most, its share of the pool's promises. Find says of a volume
	// what a snapshot of it would take now.
	Promised int64
	// Takes is how many bytes of the pool's promises a volume takes, where that is not Bytes; else 0.
	Takes int64
	// TakenAt is the instant that a snapshot is of.
	TakenAt time.Time
}

// Opened is a volume that can be used on this host.
type Opened struct {
	// Device is the path of a block device, or "".
	Device string
	// Dir is the path of a directory that is the volume, or "". A host that stages it binds it; Tree
	// proves that what it opens there is the one that was verified.
	Dir string
	// Tree is the device and inode number of Dir.
	Tree file.ID
	// Bytes is the device's size, or the directory's limit.
	Bytes int64
	// Identity of what was opened.
	Identity string
	// Discard tells that space given back by the file system is given back to the pool.
	Discard bool
}

// InUse tells whether anything on this host uses a volume, also what no record knows of: a device, a mount, a
// process. A pool that cannot tell is fault.Invalid.
func InUse(ctx context.Context, p Pool, v Volume) (bool, error) {
	knows, ok := unwrap(p).(interface {
		InUse(context.Context, Volume) (bool, error)
	})
	if !ok {
		return false, fault.New(fault.Invalid, "whether %q is in use can't be told for this type of datastore", v.ID)
	}
	return knows.InUse(ctx, v)
}

// update tells an open pool of a changed spec that keeps its place, where its type wants to know.
func update(p Pool, d *v1alpha1.Datastore) {
	if wants, ok := unwrap(p).(interface{ Update(*v1alpha1.Datastore) }); ok {
		wants.Update(d)
	}
}

// maintain has a pool do what it must do by itself now and then, where its type has such work: a thin pool that fills is
// extended, say. It is called before each measurement.
func maintain(ctx context.Context, p Pool) error {
	if works, ok := unwrap(p).(interface{ Maintain(context.Context) error }); ok {
		return works.Maintain(ctx)
	}
	return nil
}

// deactivate has the pool of a datastore that is switched off let go of what opening it took of the host, a mount say. What
// is in use stays, and is fault.Busy.
func deactivate(ctx context.Context, p Pool) error {
	if holds, ok := unwrap(p).(interface{ Deactivate(context.Context) error }); ok {
		return holds.Deactivate(ctx)
	}
	return nil
}

func unwrap(p Pool) Pool {
	if e, ok := p.(*exclusive); ok {
		return e.Pool
	}
	return p
}

// ForeignError is in the error of a pool that can be read and belongs to another cluster, datastore or machine.
type ForeignError struct{ Err error }

// Error implements error.
func (f *ForeignError) Error() string { return f.Err.Error() }

// Unwrap returns what is wrong, with its kind.
func (f *ForeignError) Unwrap() error { return f.Err }

// Type is a type of datastore.
type Type struct {
	Name v1alpha1.DatastoreType
	// Capabilities is the upper bound of what pools of this type can do.
	Capabilities func(v1alpha1.DatastoreSpec) Capabilities
	// Retire lets go of what pools of the type took of the host itself for the datastore of that name, a mount say, once the
	// datastore was removed; its storage stays as it is. What is in use stays, and is fault.Busy. Nil is nothing to let go of.
	Retire func(ctx context.Context, t Tools, name string) error
	// Tidy retires all datastores but those to be kept: they were removed while the driver was not running.
	Tidy func(ctx context.Context, t Tools, keep func(name string) bool) error
	// New opens a pool. It makes the pool's marker where Config.PoolUUID is empty and the storage is
	// blank or the administrator said to initialize it; it adopts a marker of the same cluster and host.
	New func(ctx context.Context, c Config) (Pool, error)
}

// Config is what a type needs to open a pool.
type Config struct {
	// Datastore with its defaults set.
	Datastore *v1alpha1.Datastore
	// ClusterID and MachineID are written into marks and compared with those found; Host is written only.
	ClusterID string
	MachineID string
	Host      string
	// PoolUUID is the UUID that the record holds of this pool, or "" where it never held one.
	PoolUUID string
	// Inspect opens what is there to look at it: nothing is changed, and no marker made (fault.NotFound) or
	// taken over.
	Inspect bool
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
	// MountDir is the folder in which types mount what they must mount themselves, StateDir the one in which they keep what must
	// outlive a restart. Both are the driver's own, made where they are missing, and "" where nothing is opened but to be
	// inspected.
	MountDir, StateDir string
}
