package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// DatastoreSnapshot holds what a volume held at one instant. It outlives its source: the spec says all
// that a restore needs. The controller writes its spec, the worker's agent its status.
//
// +kubebuilder:object:root=true
type DatastoreSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DatastoreSnapshotSpec   `json:"spec"`
	Status DatastoreSnapshotStatus `json:"status,omitempty"`
}

// DatastoreSnapshotSpec is the intent.
type DatastoreSnapshotSpec struct {
	// Name is the name that CreateSnapshot was called with; the record's own name is the snapshot's ID.
	Name string `json:"name"`
	// Volume is the ID of the source, VolumeUID its record's UID.
	Volume    string    `json:"volume"`
	VolumeUID types.UID `json:"volumeUID"`

	Datastore string `json:"datastore"`
	ClusterID string `json:"clusterID"`

	// StorageUID is the UID that the mark on the storage bears, where it is not the record's own: a record
	// that was recovered from its mark has another one than it had.
	StorageUID types.UID `json:"storageUID,omitempty"`

	// Size, Provisioning, Format, Access, Filesystem and Quota are the source's when the snapshot was
	// asked for.
	Size         resource.Quantity `json:"size"`
	Provisioning Provisioning      `json:"provisioning"`
	Format       VolumeFormat      `json:"format"`
	Access       VolumeAccess      `json:"access"`
	Filesystem   *FilesystemSpec   `json:"filesystem,omitempty"`
	Quota        QuotaPolicy       `json:"quota,omitempty"`

	// SnapshotSize is how much the snapshot of a thick logical volume can take up: a share of the volume ("20%") or a
	// quantity of bytes; "" leaves it to the datastore.
	SnapshotSize string `json:"snapshotSize,omitempty"`

	// Wipe is the source's own when the snapshot was asked for; "" leaves it to the datastore.
	Wipe WipePolicy `json:"wipe,omitempty"`

	// Parameters are those of CreateSnapshot without the snapshotter's own, compared on repeats.
	Parameters map[string]string `json:"parameters,omitempty"`

	// Worker is the one host that may change the snapshot on its storage: its source's.
	Worker Worker `json:"worker"`

	// Deletion asks for the data to be removed. Nothing else does: deleting the record does not.
	Deletion *Deletion `json:"deletion,omitempty"`
}

// DatastoreSnapshotStatus is what was found.
type DatastoreSnapshotStatus struct {
	// Worker is written by the worker's agent.
	Worker WorkerStatus `json:"worker,omitempty"`
}
