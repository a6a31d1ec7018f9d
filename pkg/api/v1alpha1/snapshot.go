package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DatastoreSnapshot is a snapshot of a volume. No datastore type of this version makes snapshots yet,
// so the record names its source and nothing more.
//
// +kubebuilder:object:root=true
type DatastoreSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec DatastoreSnapshotSpec `json:"spec"`
}

// DatastoreSnapshotSpec is the intent.
type DatastoreSnapshotSpec struct {
	// Name is the name that CreateSnapshot was called with.
	Name string `json:"name"`
	// Volume is the ID of the source.
	Volume    string `json:"volume"`
	Datastore string `json:"datastore"`
	ClusterID string `json:"clusterID"`
}
