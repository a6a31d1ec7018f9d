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
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=dssnap,categories=datastore-csi
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:selectablefield:JSONPath=`.spec.worker.host`
// +kubebuilder:selectablefield:JSONPath=`.spec.datastore`
// +kubebuilder:selectablefield:JSONPath=`.spec.volume`
// +kubebuilder:printcolumn:name=Volume,type=string,JSONPath=`.spec.volume`
// +kubebuilder:printcolumn:name=Datastore,type=string,JSONPath=`.spec.datastore`
// +kubebuilder:printcolumn:name=Host,type=string,JSONPath=`.spec.worker.host`
// +kubebuilder:printcolumn:name=Size,type=string,JSONPath=`.spec.size`
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.worker.phase`
// +kubebuilder:printcolumn:name=Taken,type=date,JSONPath=`.status.worker.takenAt`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Failure,type=string,priority=1,JSONPath=`.status.worker.failure.message`
type DatastoreSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DatastoreSnapshotSpec   `json:"spec"`
	Status DatastoreSnapshotStatus `json:"status,omitempty"`
}

// DatastoreSnapshotSpec is the intent.
//
// +kubebuilder:validation:XValidation:rule="has(self.storageUID) == has(oldSelf.storageUID) && has(self.filesystem) == has(oldSelf.filesystem) && has(self.quota) == has(oldSelf.quota) && has(self.snapshotSize) == has(oldSelf.snapshotSize) && has(self.wipe) == has(oldSelf.wipe) && has(self.parameters) == has(oldSelf.parameters)",message="storageUID, filesystem, quota, snapshotSize, wipe and parameters are chosen when the record is made, and stay"
// +kubebuilder:validation:XValidation:rule="self.worker.host == oldSelf.worker.host || self.worker.?epoch.orValue(0) > oldSelf.worker.?epoch.orValue(0)",message="another worker has a greater epoch"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.deletion) || (has(self.deletion) && self.deletion == oldSelf.deletion)",message="an order to delete stands for good"
type DatastoreSnapshotSpec struct {
	// Name is the name that CreateSnapshot was called with; the record's own name is the snapshot's ID.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Volume is the ID of the source, VolumeUID its record's UID.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Volume string `json:"volume"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	VolumeUID types.UID `json:"volumeUID"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Datastore string `json:"datastore"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterID string `json:"clusterID"`

	// StorageUID is the UID that the mark on the storage bears, where it is not the record's own: a record
	// that was recovered from its mark has another one than it had.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	StorageUID types.UID `json:"storageUID,omitempty"`

	// Size, Provisioning, Format, Access, Filesystem and Quota are the source's when the snapshot was
	// asked for.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Size resource.Quantity `json:"size"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Provisioning Provisioning `json:"provisioning"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Format VolumeFormat `json:"format"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Access VolumeAccess `json:"access"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Filesystem *FilesystemSpec `json:"filesystem,omitempty"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Quota QuotaPolicy `json:"quota,omitempty"`

	// SnapshotSize is how much the snapshot of a thick logical volume can take up: a share of the volume ("20%") or a
	// quantity of bytes; "" leaves it to the datastore.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MaxLength=64
	SnapshotSize string `json:"snapshotSize,omitempty"`

	// Wipe is the source's own when the snapshot was asked for; "" leaves it to the datastore.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Wipe WipePolicy `json:"wipe,omitempty"`

	// Parameters are those of CreateSnapshot without the snapshotter's own, compared on repeats.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MaxProperties=64
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
