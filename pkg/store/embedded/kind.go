package embedded

import "github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"

// kind is what the tables of two kinds of record differ in.
type kind[T any] struct {
	// bucket of the file, and the word that errors name the record by.
	bucket, word string
	// spec and status return pointers to the record's parts, for comparison; nil where it has none.
	spec, status func(*T) any
	// setSpec and setStatus copy a part from another record, which is not used again.
	setSpec, setStatus func(to, from *T)
}

func datastores() kind[v1alpha1.Datastore] {
	return kind[v1alpha1.Datastore]{
		bucket: "datastores", word: "datastore",
		spec:      func(r *v1alpha1.Datastore) any { return &r.Spec },
		status:    func(r *v1alpha1.Datastore) any { return &r.Status },
		setSpec:   func(to, from *v1alpha1.Datastore) { to.Spec = from.Spec },
		setStatus: func(to, from *v1alpha1.Datastore) { to.Status = from.Status },
	}
}

func hosts() kind[v1alpha1.DatastoreHost] {
	return kind[v1alpha1.DatastoreHost]{
		bucket: "hosts", word: "host",
		spec:      func(*v1alpha1.DatastoreHost) any { return nil },
		status:    func(r *v1alpha1.DatastoreHost) any { return &r.Status },
		setSpec:   func(_, _ *v1alpha1.DatastoreHost) {},
		setStatus: func(to, from *v1alpha1.DatastoreHost) { to.Status = from.Status },
	}
}

func volumes() kind[v1alpha1.DatastoreVolume] {
	return kind[v1alpha1.DatastoreVolume]{
		bucket: "volumes", word: "volume",
		spec:      func(r *v1alpha1.DatastoreVolume) any { return &r.Spec },
		status:    func(r *v1alpha1.DatastoreVolume) any { return &r.Status },
		setSpec:   func(to, from *v1alpha1.DatastoreVolume) { to.Spec = from.Spec },
		setStatus: func(to, from *v1alpha1.DatastoreVolume) { to.Status = from.Status },
	}
}

func snapshots() kind[v1alpha1.DatastoreSnapshot] {
	return kind[v1alpha1.DatastoreSnapshot]{
		bucket: "snapshots", word: "snapshot",
		spec:      func(r *v1alpha1.DatastoreSnapshot) any { return &r.Spec },
		status:    func(r *v1alpha1.DatastoreSnapshot) any { return &r.Status },
		setSpec:   func(to, from *v1alpha1.DatastoreSnapshot) { to.Spec = from.Spec },
		setStatus: func(to, from *v1alpha1.DatastoreSnapshot) { to.Status = from.Status },
	}
}
