// Package v1alpha1 holds the four records of Datastore CSI, their defaults and their validation.
//
// A record is the declared state of one thing: a Datastore (a named pool of storage), a DatastoreHost
// (a machine on which the driver runs), a DatastoreVolume or a DatastoreSnapshot. They follow the
// Kubernetes API conventions: spec is the intent, status is what was found, and each part of a status
// has one writer. Fields of datastore types arrive with the types.
//
// +kubebuilder:object:generate=true
// +groupName=datastore-csi.io
package v1alpha1

// The API group of the records, and the name of the CSI driver.
const (
	Group      = "datastore-csi.io"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
	DriverName = Group
	// TopologyKey is the CSI topology segment that names a host.
	TopologyKey = Group + "/host"
	// Finalizer holds a record until its storage is dealt with.
	Finalizer = Group + "/storage"
)
