// Package store keeps the four records in typed tables.
//
// A table follows the rules of the Kubernetes API, so that custom resources can stand below it: a write
// is atomic on the record's name, an update is a compare-and-swap on its resource version, spec and
// status are written apart, a changed spec raises the generation, and a record with finalizers is only
// marked when it is deleted. Records handed out are shared and must not be altered: Change and
// ChangeStatus hand a copy to their caller. Records handed in are copied, and stay the caller's.
//
// storetest holds the contract as a suite of tests that every store passes.
package store

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Record is a pointer to one of the four records.
type Record[T any] interface {
	*T
	metav1.Object
	DeepCopy() *T
}

// Table keeps the records of one kind. All methods may be called concurrently.
//
// Errors are of these kinds: fault.NotFound, fault.Exists, fault.Conflict (the record was written since
// it was read, or is another one of the same name), fault.Invalid (a name that is no DNS subdomain),
// fault.Unavailable (the store does not answer or is closed; the context ended, whose error is then in
// the chain). After fault.Unavailable a write may have happened, or may happen still: look again, with
// Get, what became of it.
//
// Each write is a step.Do of its context, made before anything is written.
type Table[T any] interface {
	// Get returns the record as it is now, never from a cache that lags.
	Get(ctx context.Context, name string) (*T, error)

	// List returns all records, sorted by name. It may lag behind Get.
	List(ctx context.Context) ([]*T, error)

	// Watch tells of every record that exists and from then on of every change, or of one record only
	// where name is not empty. It may lag, and it may leave out versions between the last seen and the
	// present one; it never leaves out the present one (nil for a record that was there and is gone).
	// The watch must be closed.
	Watch(ctx context.Context, name string) (Watch[T], error)

	// Create writes a new record and returns it with UID, resource version, generation 1 and creation
	// time set, whatever it says of these. A record of that name is fault.Exists, even where it is
	// equal or marked deleted. The status is stored too.
	Create(ctx context.Context, record *T) (*T, error)

	// Update writes the record's spec and metadata (labels, annotations, finalizers) where its resource
	// version is still the present one (none is fault.Conflict too). The status stays as stored. A
	// changed spec raises the generation; where nothing differs, the version may stay the same. A record
	// that is marked deleted takes no new finalizer (fault.Invalid); when it loses its last one it is
	// gone, and its last version is returned.
	Update(ctx context.Context, record *T) (*T, error)

	// UpdateStatus writes the record's status where its resource version is still the present one. Spec,
	// metadata and generation stay as stored.
	UpdateStatus(ctx context.Context, record *T) (*T, error)

	// Delete removes the record, or marks it deleted while it has finalizers: deletionTimestamp is set
	// and the generation raised, once. Where uid is not empty and the record has another one, it is
	// fault.Conflict. Not there is fault.NotFound.
	Delete(ctx context.Context, name, uid string) error
}

// Watch is a stream of changes for one reader; Close may be called by anybody.
type Watch[T any] interface {
	// Next waits for the next change. It fails when ctx ends, whose error is then in the chain and after
	// which it may be called again, and with fault.Unavailable when the watch or the store was closed.
	Next(ctx context.Context) (Event[T], error)
	// Close ends the watch. It may be called twice.
	Close()
}

// Event is one change of one record.
type Event[T any] struct {
	// Name of the record.
	Name string
	// Record is its present version, or nil where it is gone.
	Record *T
}

// Store holds a table for each of the records.
type Store struct {
	Datastores Table[v1alpha1.Datastore]
	Hosts      Table[v1alpha1.DatastoreHost]
	Volumes    Table[v1alpha1.DatastoreVolume]
	Snapshots  Table[v1alpha1.DatastoreSnapshot]
}
