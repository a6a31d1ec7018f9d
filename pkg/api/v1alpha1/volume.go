package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// DatastoreVolume is a volume carved out of a datastore. The controller writes its spec; each part of
// its status has one writer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=dsvol,categories=datastore-csi
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:selectablefield:JSONPath=`.spec.worker.host`
// +kubebuilder:selectablefield:JSONPath=`.spec.datastore`
// +kubebuilder:printcolumn:name=Datastore,type=string,JSONPath=`.spec.datastore`
// +kubebuilder:printcolumn:name=Host,type=string,JSONPath=`.spec.worker.host`
// +kubebuilder:printcolumn:name=Size,type=string,JSONPath=`.spec.size`
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.worker.phase`
// +kubebuilder:printcolumn:name=Namespace,type=string,JSONPath=`.metadata.labels.datastore-csi\.io/pvc-namespace`
// +kubebuilder:printcolumn:name=Claim,type=string,JSONPath=`.metadata.labels.datastore-csi\.io/pvc-name`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Format,type=string,priority=1,JSONPath=`.spec.format`
// +kubebuilder:printcolumn:name=Failure,type=string,priority=1,JSONPath=`.status.worker.failure.message`
// +kubebuilder:validation:XValidation:rule="self.spec.datastore == oldSelf.spec.datastore && self.spec.worker.host == oldSelf.spec.worker.host || self.spec.worker.?epoch.orValue(0) > oldSelf.spec.worker.?epoch.orValue(0) || oldSelf.?status.worker.phase.orValue('none') == 'Rejected'",message="datastore and worker change only after the present worker rejected the volume, or with a greater epoch"
type DatastoreVolume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DatastoreVolumeSpec   `json:"spec"`
	Status DatastoreVolumeStatus `json:"status,omitempty"`
}

// DatastoreVolumeSpec is the intent.
//
// +kubebuilder:validation:XValidation:rule="has(self.storageUID) == has(oldSelf.storageUID) && has(self.filesystem) == has(oldSelf.filesystem) && has(self.source) == has(oldSelf.source) && has(self.quota) == has(oldSelf.quota) && has(self.redundancy) == has(oldSelf.redundancy) && has(self.stripes) == has(oldSelf.stripes) && has(self.parameters) == has(oldSelf.parameters) && has(self.mutableParameters) == has(oldSelf.mutableParameters)",message="storageUID, filesystem, source, quota, redundancy, stripes, parameters and mutableParameters are chosen when the record is made, and stay"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.deletion) || (has(self.deletion) && self.deletion == oldSelf.deletion)",message="an order to delete stands for good"
// +kubebuilder:validation:XValidation:rule="has(self.filesystem) == (self.access.type == 'Filesystem' && self.format != 'Subdirectory')",message="a volume has a file system of its own where it is mounted and is not a sub-directory"
type DatastoreVolumeSpec struct {
	// Name is the name that CreateVolume was called with; the record's own name is the volume's ID.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Datastore string `json:"datastore"`

	// ClusterID is the cluster that the volume belongs to; its mark on the storage carries it too.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterID string `json:"clusterID"`

	// StorageUID is the UID that the mark on the storage bears, where it is not the record's own: a record
	// that was recovered from its mark has another one than it had.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	StorageUID types.UID `json:"storageUID,omitempty"`

	// Size in bytes, never smaller than what was asked for.
	//
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",message="a quantity of bytes, more than 0"
	Size resource.Quantity `json:"size"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Provisioning Provisioning `json:"provisioning"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Format VolumeFormat `json:"format"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Access VolumeAccess `json:"access"`

	// Filesystem is what the worker makes on the volume; nil for a raw block volume.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Filesystem *FilesystemSpec `json:"filesystem,omitempty"`

	// Source is what the volume starts as a copy of; nil for an empty volume.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Source *VolumeSource `json:"source,omitempty"`

	// Quota says whether the size of a sub-directory must be enforced; "" for other formats.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Quota QuotaPolicy `json:"quota,omitempty"`

	// Redundancy and Stripes of a logical volume; "" and 0 where its datastore has none to offer. 0 stripes leaves
	// their number to the worker.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	Redundancy Redundancy `json:"redundancy,omitempty"`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	Stripes int32 `json:"stripes,omitempty"`

	// Parameters are those of CreateVolume without the provisioner's own, compared on repeats.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MaxProperties=64
	Parameters map[string]string `json:"parameters,omitempty"`

	// MutableParameters are those of CreateVolume, compared on repeats. What holds now is below: they may
	// have been changed since.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is chosen when the record is made, and stays"
	// +kubebuilder:validation:MaxProperties=64
	MutableParameters map[string]string `json:"mutableParameters,omitempty"`

	// OnDelete and Wipe are the volume's mutable parameters; "" leaves them to the datastore.
	OnDelete DeletePolicy `json:"onDelete,omitempty"`
	Wipe     WipePolicy   `json:"wipe,omitempty"`

	// Worker is the one host that may change the volume on its storage.
	Worker Worker `json:"worker"`

	// Attachments are the hosts that may use the volume, by name.
	//
	// +kubebuilder:validation:MaxProperties=5000
	Attachments map[string]Attachment `json:"attachments,omitempty"`

	// Deletion asks for the data to be removed. Nothing else does: deleting the record does not.
	Deletion *Deletion `json:"deletion,omitempty"`
}

// VolumeAccess says how a volume may be used.
type VolumeAccess struct {
	Type AccessType `json:"type"`
	// Modes that the volume was asked to support, sorted, by their names in the CSI specification.
	//
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=64
	Modes []string `json:"modes"`
}

// AccessType says what a consumer gets.
//
// +kubebuilder:validation:Enum=Filesystem;Block
type AccessType string

// Filesystem volumes are mounted; Block volumes are device nodes.
const (
	Filesystem AccessType = "Filesystem"
	Block      AccessType = "Block"
)

// FilesystemSpec names the file system of a volume.
type FilesystemSpec struct {
	// Type is ext4, xfs or btrfs.
	//
	// +kubebuilder:validation:Enum=ext4;xfs;btrfs
	Type string `json:"type"`
	// UUID is chosen with the record, so that half a format is told from a stranger's file system.
	//
	// +kubebuilder:validation:MaxLength=64
	UUID string `json:"uuid"`
	// MkfsOptions are options for the tool that makes it, already checked.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	MkfsOptions []string `json:"mkfsOptions,omitempty"`
}

// Worker names a host and counts its predecessors.
//
// +kubebuilder:validation:XValidation:rule="self.?epoch.orValue(0) >= oldSelf.?epoch.orValue(0)",message="an epoch never comes again"
type Worker struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host"`
	// +kubebuilder:validation:Minimum=0
	Epoch int64 `json:"epoch,omitempty"`
}

// Attachment lets a host use a volume.
type Attachment struct {
	// Access is the access mode, by its name in the CSI specification.
	Access   string `json:"access"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Generation of the record when the attachment was made: it tells this attachment from an
	// earlier one of the same host.
	Generation int64 `json:"generation"`
}

// Deletion is the order to remove a volume's data.
type Deletion struct {
	RequestedAt metav1.Time  `json:"requestedAt"`
	Policy      DeletePolicy `json:"policy"`
	Wipe        WipePolicy   `json:"wipe,omitempty"`
}

// VolumeSource names what a volume starts as a copy of, on the same datastore and worker.
type VolumeSource struct {
	Kind SourceKind `json:"kind"`
	// Name of the source's record, and the UID that its mark on the storage bears.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// SourceKind says what a source is.
//
// +kubebuilder:validation:Enum=Volume;Snapshot
type SourceKind string

// What a volume can be a copy of.
const (
	SourceVolume   SourceKind = "Volume"
	SourceSnapshot SourceKind = "Snapshot"
)

// DatastoreVolumeStatus is what was found.
type DatastoreVolumeStatus struct {
	// Worker is written by the worker's agent.
	Worker WorkerStatus `json:"worker,omitempty"`
	// Nodes are written each by the host of that name, from before staging until after unstaging.
	Nodes map[string]NodeStatus `json:"nodes,omitempty"`
}

// Phase is how far the worker has come.
//
// +kubebuilder:validation:Enum="";Creating;Ready;Rejected;Deleted
type Phase string

// The phases of a volume.
const (
	// Pending is the phase of a record that no agent has taken up.
	Pending Phase = ""
	// Creating volumes are being copied; Progress says how far it is.
	Creating Phase = "Creating"
	// Ready volumes can be used.
	Ready Phase = "Ready"
	// Rejected volumes were refused by the worker's agent: nothing was carved.
	Rejected Phase = "Rejected"
	// Deleted volumes are gone from the storage.
	Deleted Phase = "Deleted"
)

// WorkerStatus is the worker's part of a volume's status.
type WorkerStatus struct {
	// ObservedGeneration is the record's generation that this part is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	Phase              Phase `json:"phase,omitempty"`

	// Size in bytes that the volume has on its storage.
	Size resource.Quantity `json:"size,omitempty"`
	// Location is the volume's name on its storage.
	Location string `json:"location,omitempty"`
	// Identity is verified whenever the volume is reached.
	Identity string `json:"identity,omitempty"`

	// Marked is what the volume's mark on the storage says of what may be modified; nil where the worker has not said.
	Marked *Marked `json:"marked,omitempty"`

	// Promised is how many bytes a snapshot takes of its pool's promises: what it can hold at most. For a volume it
	// is what it takes where that is not its size.
	Promised resource.Quantity `json:"promised,omitempty"`

	// TakenAt is the instant whose bytes a snapshot holds.
	TakenAt *metav1.Time `json:"takenAt,omitempty"`

	// Progress of a copy, while the phase is Creating. It is written every few seconds at most.
	Progress *Progress `json:"progress,omitempty"`

	// Problems are what is wrong with a volume on its storage; empty where nothing is known to be.
	//
	// +listType=atomic
	Problems []Problem `json:"problems,omitempty"`

	// Failure is why the last try failed; nil after a success.
	Failure *Failure `json:"failure,omitempty"`
}

// Marked is the part of a mark that may be modified.
type Marked struct {
	OnDelete DeletePolicy `json:"onDelete,omitempty"`
	Wipe     WipePolicy   `json:"wipe,omitempty"`
}

// Progress of a copy, in bytes.
type Progress struct {
	Done  resource.Quantity `json:"done"`
	Total resource.Quantity `json:"total"`
}

// Problem is an adverse condition of a volume.
type Problem struct {
	Status VolumeHealth `json:"status"`
	// Reason is a word in CamelCase for machines, Message a sentence for people: what is wrong, and
	// what to do.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// VolumeHealth is a kind of adverse condition, by its name in the CSI specification
// (VolumeHealthErrorType).
type VolumeHealth string

// Failure is an error carried in a record.
type Failure struct {
	// Reason is the name of a kind of fault.
	Reason string `json:"reason"`
	// Message is a sentence for people: object, what was tried, what was found, what to do.
	Message string `json:"message"`
	// ObservedGeneration is the record's generation that failed.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// NodeStatus says that a host may be using a volume.
type NodeStatus struct {
	// Identity of what the host reached.
	Identity string `json:"identity,omitempty"`
	// BootID of the host's boot in which it was reached.
	BootID string `json:"bootID,omitempty"`
}
