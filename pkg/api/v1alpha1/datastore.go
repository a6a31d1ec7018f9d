package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Datastore is a named pool of storage of one type. The administrator writes its spec; the controller
// writes its status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=dstore,categories=datastore-csi
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name=Type,type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name=State,type=string,JSONPath=`.status.summary.state`
// +kubebuilder:printcolumn:name=Total,type=string,JSONPath=`.status.summary.total`
// +kubebuilder:printcolumn:name=Used,type=string,JSONPath=`.status.summary.used`
// +kubebuilder:printcolumn:name=Provisioned,type=string,JSONPath=`.status.summary.provisioned`
// +kubebuilder:printcolumn:name=Volumes,type=integer,JSONPath=`.status.volumes`
// +kubebuilder:printcolumn:name=Hosts,type=integer,JSONPath=`.status.summary.hosts`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",message="the name of a datastore becomes a label: at most 63 characters, and no '.'"
type Datastore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DatastoreSpec   `json:"spec"`
	Status DatastoreStatus `json:"status,omitempty"`
}

// DatastoreType names a type of datastore; its settings stand in the spec under the same name.
//
// +kubebuilder:validation:Enum=directory;partition;disk;lvm
type DatastoreType string

// The types of datastore.
const (
	// TypeDirectory carves volumes out of a directory of a mounted file system.
	TypeDirectory DatastoreType = "directory"
	// TypePartition is TypeDirectory on a file system that the driver mounts itself.
	TypePartition DatastoreType = "partition"
	// TypeDisk carves partitions out of disks, or gives whole disks away.
	TypeDisk DatastoreType = "disk"
	// TypeLVM carves logical volumes out of a volume group.
	TypeLVM DatastoreType = "lvm"
)

// DatastoreSpec is what an administrator says of a datastore.
//
// +kubebuilder:validation:XValidation:rule="has(self.directory) == (self.type == 'directory')",message="type directory has its settings in spec.directory, and no other type has"
// +kubebuilder:validation:XValidation:rule="has(self.partition) == (self.type == 'partition')",message="type partition has its settings in spec.partition, and no other type has"
// +kubebuilder:validation:XValidation:rule="has(self.disk) == (self.type == 'disk')",message="type disk has its settings in spec.disk, and no other type has"
// +kubebuilder:validation:XValidation:rule="has(self.lvm) == (self.type == 'lvm')",message="type lvm has its settings in spec.lvm, and no other type has"
// +kubebuilder:validation:XValidation:rule="!has(self.volumes) || !has(self.volumes.format) || (self.volumes.format == 'Device') == (self.type in ['lvm', 'disk'])",message="volumes of types lvm and disk have format Device, and no others have"
// +kubebuilder:validation:XValidation:rule="!has(self.volumes) || !has(self.volumes.provisioning) || !(self.type in ['lvm', 'disk']) || (self.volumes.provisioning == 'Thin') == (has(self.lvm) && has(self.lvm.thinPool))",message="volumes in a thin pool are Thin, those of type disk and of a volume group itself are Thick"
type DatastoreSpec struct {
	// Type cannot be changed.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the type of a datastore stays; make another datastore for another type"
	Type DatastoreType `json:"type"`

	// Directory holds the settings of type directory.
	Directory *DirectorySpec `json:"directory,omitempty"`

	// Partition holds the settings of type partition.
	Partition *PartitionSpec `json:"partition,omitempty"`

	// Disk holds the settings of type disk.
	Disk *DiskSpec `json:"disk,omitempty"`

	// LVM holds the settings of type lvm.
	LVM *LVMSpec `json:"lvm,omitempty"`

	// Hosts that have this datastore: a pool on each. Empty means every host.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=5000
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Hosts []string `json:"hosts,omitempty"`

	Capacity CapacityPolicy `json:"capacity,omitempty"`
	Volumes  VolumeDefaults `json:"volumes,omitempty"`

	// AllowedNamespaces are the namespaces whose claims may use the datastore. Empty means all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=5000
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`

	// State Inactive closes the pool: nothing is made, staged or deleted on it. What is mounted stays.
	State DatastoreState `json:"state,omitempty"`

	// Maintenance Cordon refuses new volumes and expansions; everything else goes on.
	Maintenance Maintenance `json:"maintenance,omitempty"`
}

// DirectorySpec are the settings of type directory.
type DirectorySpec struct {
	// Path of the directory on its host: absolute, with no symbolic link in it, not the root.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))+/*$')`,message="an absolute path, such as /srv/fast, without '.', '..' and empty parts, and not the root directory"
	// +kubebuilder:validation:MaxLength=4096
	Path string `json:"path"`

	// Initialize lets the driver make its marker in a directory that is not empty. What lies there
	// already is never touched.
	Initialize bool `json:"initialize,omitempty"`

	// AdoptFrom is the machine-id of the host that the directory's disk was moved from.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9a-f-]*$')`,message="a machine-id: hexadecimal digits, as in /etc/machine-id"
	// +kubebuilder:validation:MaxLength=64
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// CapacityPolicy bounds what may be promised from a pool.
//
// +kubebuilder:validation:XValidation:rule="(has(self.warnPercent) ? self.warnPercent : 80) <= (has(self.criticalPercent) ? self.criticalPercent : 95)",message="warnPercent (80 where it is not given) must not be more than criticalPercent (95)"
type CapacityPolicy struct {
	// OvercommitPercent of the pool's total may be promised; 100 is no more than there is.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	OvercommitPercent *int32 `json:"overcommitPercent,omitempty"`

	// Reserve is kept back: a share of the pool's total ("5%") or a quantity of bytes ("20Gi").
	//
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^0*([0-9]|[1-9][0-9]|100)%$') || (isQuantity(self) && !quantity(self).isLessThan(quantity('0')))",message="a share (5%) or a quantity of bytes (20Gi)"
	// +kubebuilder:validation:MaxLength=64
	Reserve string `json:"reserve,omitempty"`

	// WarnPercent and CriticalPercent are the shares of the pool in use at which it is reported, and
	// at which nothing new is promised.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	WarnPercent *int32 `json:"warnPercent,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	CriticalPercent *int32 `json:"criticalPercent,omitempty"`

	// MaxVolumes bounds the number of volumes on a pool; 0 is no bound.
	//
	// +kubebuilder:validation:Minimum=0
	MaxVolumes int32 `json:"maxVolumes,omitempty"`
}

// VolumeDefaults hold for the datastore's volumes where a StorageClass says nothing.
type VolumeDefaults struct {
	Provisioning Provisioning `json:"provisioning,omitempty"`
	Format       VolumeFormat `json:"format,omitempty"`
	OnDelete     DeletePolicy `json:"onDelete,omitempty"`
	// Wipe says what is done to a volume's bytes before their space is given back; "" is the type's own.
	Wipe WipePolicy `json:"wipe,omitempty"`
}

// Provisioning says when a volume takes its space.
//
// +kubebuilder:validation:Enum=Thin;Thick
type Provisioning string

// Thin takes space when it is written, Thick when the volume is made.
const (
	Thin  Provisioning = "Thin"
	Thick Provisioning = "Thick"
)

// VolumeFormat says what a volume is on its datastore.
//
// +kubebuilder:validation:Enum=Image;Subdirectory;Device
type VolumeFormat string

// The formats of volumes.
const (
	// FormatImage is a raw image file, attached as a loop device.
	FormatImage VolumeFormat = "Image"
	// FormatSubdirectory is a directory, mounted by bind; its size is enforced by a quota.
	FormatSubdirectory VolumeFormat = "Subdirectory"
	// FormatDevice is a block device that the datastore carves: a logical volume, a partition, a disk. It is what all
	// volumes of such datastores are, and cannot be asked for elsewhere.
	FormatDevice VolumeFormat = "Device"
)

// QuotaPolicy says whether the size of a sub-directory must be enforced.
//
// +kubebuilder:validation:Enum=Required;None
type QuotaPolicy string

// The quota policies: Required volumes are refused where their size can't be enforced.
const (
	QuotaRequired QuotaPolicy = "Required"
	QuotaNone     QuotaPolicy = "None"
)

// DeletePolicy says what becomes of a volume's data when it is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain;Archive
type DeletePolicy string

// The delete policies.
const (
	// DeleteData removes it.
	DeleteData DeletePolicy = "Delete"
	// RetainData leaves it in its place on the storage, marked, without a record.
	RetainData DeletePolicy = "Retain"
	// ArchiveData moves it aside on the storage under a readable name, with its metadata.
	ArchiveData DeletePolicy = "Archive"
)

// WipePolicy says what is done to a volume's bytes before their space is given back.
//
// +kubebuilder:validation:Enum="";None;Discard;Zero
type WipePolicy string

// The wipe policies.
const (
	// WipeDefault is the type's own.
	WipeDefault WipePolicy = ""
	// WipeNone does nothing to them.
	WipeNone WipePolicy = "None"
	// WipeDiscard tells the storage below that they are of no use any more.
	WipeDiscard WipePolicy = "Discard"
	// WipeZero overwrites them with zeroes.
	WipeZero WipePolicy = "Zero"
)

// DatastoreState is the administrator's switch of a pool.
//
// +kubebuilder:validation:Enum=Active;Inactive
type DatastoreState string

// The states of a datastore.
const (
	StateActive   DatastoreState = "Active"
	StateInactive DatastoreState = "Inactive"
)

// Maintenance is what an administrator has in mind with a datastore.
//
// +kubebuilder:validation:Enum="";Cordon
type Maintenance string

// The kinds of maintenance.
const (
	MaintenanceNone Maintenance = ""
	Cordon          Maintenance = "Cordon"
)

// DatastoreStatus is the datastore over all its hosts.
type DatastoreStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Health is the worst of the pools'.
	Health Health `json:"health,omitempty"`

	// Total, Used, Available and Provisioned are bytes, summed over the pools that answer.
	// Available is what can still be promised.
	Total       resource.Quantity `json:"total,omitempty"`
	Used        resource.Quantity `json:"used,omitempty"`
	Available   resource.Quantity `json:"available,omitempty"`
	Provisioned resource.Quantity `json:"provisioned,omitempty"`

	// Volumes counts the records that lie on the datastore.
	Volumes int32 `json:"volumes,omitempty"`

	// Hosts are those that serve a pool, sorted.
	Hosts []string `json:"hosts,omitempty"`

	// Summary says for people what stands above.
	Summary *DatastoreSummary `json:"summary,omitempty"`

	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// DatastoreSummary is what kubectl shows of a datastore in its columns.
type DatastoreSummary struct {
	// State is the health, and what the administrator has in mind: "Healthy", "Healthy,Cordon", "Inactive".
	State string `json:"state,omitempty"`
	// Total, Used and Provisioned are bytes, rounded.
	Total       string `json:"total,omitempty"`
	Used        string `json:"used,omitempty"`
	Provisioned string `json:"provisioned,omitempty"`
	// Hosts counts those that serve a pool.
	Hosts int32 `json:"hosts"`
}

const (
	// ConditionReady is true where every pool of the datastore serves.
	ConditionReady = "Ready"
	// ConditionHeld is true where the datastore was to be removed and stays for the volumes and snapshots on it, which
	// its message names.
	ConditionHeld = "Held"
)

// ReasonVolumesLeft is the reason of ConditionHeld.
const ReasonVolumesLeft = "VolumesLeft"

// Health says how a pool is.
//
// +kubebuilder:validation:Enum=Healthy;Warning;Critical;Unavailable
type Health string

// The states of health, best first.
const (
	// Healthy pools serve everything.
	Healthy Health = "Healthy"
	// Warning pools serve everything; their findings want attention.
	Warning Health = "Warning"
	// Critical pools serve what exists and promise nothing new.
	Critical Health = "Critical"
	// Unavailable pools cannot be used now.
	Unavailable Health = "Unavailable"
)

// Severity orders the states of health: 0 for Healthy, more for worse. What is unknown is worst.
func (h Health) Severity() int {
	switch h {
	case Healthy:
		return 0
	case Warning:
		return 1
	case Critical:
		return 2
	}
	return 3
}
