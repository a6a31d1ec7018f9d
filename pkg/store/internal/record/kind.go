package record

import "github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"

// Kind is what stores know of one kind of record.
type Kind[T any] struct {
	// Word is what errors call a record by, Plural what a file calls many.
	Word, Plural string
	// Name and Resource are those of the kind in the Kubernetes API.
	Name, Resource string
	// Spec and Status return pointers to the record's parts, for comparison; nil where it has none.
	Spec, Status func(*T) any
	// SetSpec and SetStatus copy a part from another record, which is not used again.
	SetSpec, SetStatus func(to, from *T)
}

// Datastores returns the kind of Datastore.
func Datastores() Kind[v1alpha1.Datastore] {
	return Kind[v1alpha1.Datastore]{
		Word: "datastore", Plural: "datastores", Name: "Datastore", Resource: "datastores",
		Spec:      func(r *v1alpha1.Datastore) any { return &r.Spec },
		Status:    func(r *v1alpha1.Datastore) any { return &r.Status },
		SetSpec:   func(to, from *v1alpha1.Datastore) { to.Spec = from.Spec },
		SetStatus: func(to, from *v1alpha1.Datastore) { to.Status = from.Status },
	}
}

// Hosts returns the kind of DatastoreHost.
func Hosts() Kind[v1alpha1.DatastoreHost] {
	return Kind[v1alpha1.DatastoreHost]{
		Word: "host", Plural: "hosts", Name: "DatastoreHost", Resource: "datastorehosts",
		Spec:      func(*v1alpha1.DatastoreHost) any { return nil },
		Status:    func(r *v1alpha1.DatastoreHost) any { return &r.Status },
		SetSpec:   func(_, _ *v1alpha1.DatastoreHost) {},
		SetStatus: func(to, from *v1alpha1.DatastoreHost) { to.Status = from.Status },
	}
}

// Volumes returns the kind of DatastoreVolume.
func Volumes() Kind[v1alpha1.DatastoreVolume] {
	return Kind[v1alpha1.DatastoreVolume]{
		Word: "volume", Plural: "volumes", Name: "DatastoreVolume", Resource: "datastorevolumes",
		Spec:      func(r *v1alpha1.DatastoreVolume) any { return &r.Spec },
		Status:    func(r *v1alpha1.DatastoreVolume) any { return &r.Status },
		SetSpec:   func(to, from *v1alpha1.DatastoreVolume) { to.Spec = from.Spec },
		SetStatus: func(to, from *v1alpha1.DatastoreVolume) { to.Status = from.Status },
	}
}

// Snapshots returns the kind of DatastoreSnapshot.
func Snapshots() Kind[v1alpha1.DatastoreSnapshot] {
	return Kind[v1alpha1.DatastoreSnapshot]{
		Word: "snapshot", Plural: "snapshots", Name: "DatastoreSnapshot", Resource: "datastoresnapshots",
		Spec:      func(r *v1alpha1.DatastoreSnapshot) any { return &r.Spec },
		Status:    func(r *v1alpha1.DatastoreSnapshot) any { return &r.Status },
		SetSpec:   func(to, from *v1alpha1.DatastoreSnapshot) { to.Spec = from.Spec },
		SetStatus: func(to, from *v1alpha1.DatastoreSnapshot) { to.Status = from.Status },
	}
}
