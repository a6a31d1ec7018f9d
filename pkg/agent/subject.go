package agent

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// subject is a record of what lies on a pool, a volume or a snapshot, as the agent works on it.
type subject struct {
	datastore.Volume
	// table that holds the record.
	table      records
	uid        types.UID
	generation int64
	// on is the name of its datastore, host its worker's.
	on, host string
	// source of a copy; nil for an empty volume.
	source   *datastore.Volume
	deletion *v1alpha1.Deletion
	status   *v1alpha1.WorkerStatus
}

// kind is the word for it in logs and errors.
func (s *subject) kind() string {
	if s.Snapshot {
		return "snapshot"
	}
	return "volume"
}

// unmade tells whether it has yet to be made.
func (s *subject) unmade() bool {
	return s.status.Phase == v1alpha1.Pending || s.status.Phase == v1alpha1.Creating
}

// ended tells whether nothing of it is on the storage any more, or ever was.
func (s *subject) ended() bool {
	return s.status.Phase == v1alpha1.Deleted || s.status.Phase == v1alpha1.Rejected
}

// wantsWork tells whether the record says something that is not yet true.
func (s *subject) wantsWork() bool {
	switch {
	case s.ended():
		return false
	case s.deletion != nil, s.unmade():
		return true
	}
	return !s.Snapshot && (s.Bytes > s.status.Size.Value() || !s.isMarked())
}

// isMarked tells whether the mark on the storage says what the record says of what may be modified.
func (s *subject) isMarked() bool {
	says := v1alpha1.Marked{}
	if s.status.Marked != nil {
		says = *s.status.Marked
	}
	return says == s.marked()
}

// marked is what the mark on the storage is to say of what may be modified.
func (s *subject) marked() v1alpha1.Marked {
	return v1alpha1.Marked{OnDelete: s.OnDelete, Wipe: s.Wipe}
}

// holdsSpace tells whether the record, as it stands, was promised space on its pool.
func (s *subject) holdsSpace() bool {
	return s.status.Phase == v1alpha1.Ready || s.status.Phase == v1alpha1.Creating
}

// promised returns the bytes that it takes of its pool's promises: a snapshot what it can hold at most, a
// volume what it has, even where less was asked for since.
func (s *subject) promised() int64 {
	if s.Snapshot {
		return s.status.Promised.Value()
	}
	return max(s.Takes(), s.status.Size.Value(), s.status.Promised.Value())
}

// records is a table of subjects.
type records interface {
	// get returns the record of that name as it is now.
	get(ctx context.Context, name string) (*subject, error)
	list(ctx context.Context) ([]*subject, error)
	// watch tells of every change until ctx ends; nil is a record that is gone.
	watch(ctx context.Context, tell func(key string, s *subject)) error
	// alter changes the worker's part of the subject's record, unless set returns false. A record that is
	// gone, or another one by now, needs no change.
	alter(ctx context.Context, s *subject, set func(*v1alpha1.WorkerStatus) bool) error
}

// kindOf is a table of the store as records.
type kindOf[T any, P store.Record[T]] struct {
	table  store.Table[T]
	view   func(*T) *subject
	worker func(*T) *v1alpha1.WorkerStatus
	key    func(name string) string
}

func volumesOf(t store.Table[v1alpha1.DatastoreVolume]) records {
	return &kindOf[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume]{
		table: t,
		view: func(r *v1alpha1.DatastoreVolume) *subject {
			return &subject{
				Volume: datastore.FromRecord(r), uid: r.UID, generation: r.Generation, on: r.Spec.Datastore, host: r.Spec.Worker.Host,
				source: datastore.FromSource(r.Spec.Source, r.Spec.ClusterID), deletion: r.Spec.Deletion, status: &r.Status.Worker,
			}
		},
		worker: func(r *v1alpha1.DatastoreVolume) *v1alpha1.WorkerStatus { return &r.Status.Worker },
		key:    func(name string) string { return datastore.Volume{ID: name}.Key() },
	}
}

func snapshotsOf(t store.Table[v1alpha1.DatastoreSnapshot]) records {
	return &kindOf[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot]{
		table: t,
		view: func(r *v1alpha1.DatastoreSnapshot) *subject {
			return &subject{
				Volume: datastore.FromSnapshot(r), uid: r.UID, generation: r.Generation, on: r.Spec.Datastore, host: r.Spec.Worker.Host,
				source:   &datastore.Volume{ID: r.Spec.Volume, UID: string(r.Spec.VolumeUID), ClusterID: r.Spec.ClusterID},
				deletion: r.Spec.Deletion, status: &r.Status.Worker,
			}
		},
		worker: func(r *v1alpha1.DatastoreSnapshot) *v1alpha1.WorkerStatus { return &r.Status.Worker },
		key:    func(name string) string { return datastore.Volume{ID: name, Snapshot: true}.Key() },
	}
}

func (k *kindOf[T, P]) see(r *T) *subject {
	s := k.view(r)
	s.table = k
	return s
}

func (k *kindOf[T, P]) get(ctx context.Context, name string) (*subject, error) {
	r, err := k.table.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.see(r), nil
}

func (k *kindOf[T, P]) list(ctx context.Context) ([]*subject, error) {
	all, err := k.table.List(ctx)
	out := make([]*subject, 0, len(all))
	for _, r := range all {
		out = append(out, k.see(r))
	}
	return out, err
}

func (k *kindOf[T, P]) watch(ctx context.Context, tell func(key string, s *subject)) error {
	return store.Each(ctx, k.table, "", func(e store.Event[T]) {
		if e.Record == nil {
			tell(k.key(e.Name), nil)
			return
		}
		tell(k.key(e.Name), k.see(e.Record))
	})
}

func (k *kindOf[T, P]) alter(ctx context.Context, s *subject, set func(*v1alpha1.WorkerStatus) bool) error {
	_, err := store.ChangeStatus[T, P](ctx, k.table, s.ID, func(r *T) error {
		if P(r).GetUID() != s.uid || !set(k.worker(r)) {
			return store.Unchanged()
		}
		return nil
	})
	return ignore(err, fault.NotFound)
}
