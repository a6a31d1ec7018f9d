package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// ProvisionPolicy says whether the driver may make what a datastore lies on: a file system, a volume group.
//
// +kubebuilder:validation:Enum=Never;IfEmpty
type ProvisionPolicy string

// The provision policies.
const (
	// ProvisionNever takes what is there.
	ProvisionNever ProvisionPolicy = "Never"
	// ProvisionIfEmpty makes it on devices that are blank by every probe, and on no others.
	ProvisionIfEmpty ProvisionPolicy = "IfEmpty"
)

// PartitionSpec are the settings of type partition.
//
// +kubebuilder:validation:XValidation:rule="!has(self.provision) || self.provision != 'IfEmpty' || (has(self.fsType) && self.fsType.size() > 0)",message="fsType says which file system to make on a blank device"
type PartitionSpec struct {
	// Device that bears the file system: a stable path, such as a link in /dev/disk/by-partuuid.
	//
	// +kubebuilder:validation:XValidation:rule=`self.startsWith('/dev/') && self.matches(r'^(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))+$')`,message="a path below /dev, without '.', '..' and empty parts, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^/dev/((s|h|v|xv)d[a-z]+[0-9]*|(nvme[0-9]+n|mmcblk|md)[0-9]+(p[0-9]+)?|dm-[0-9]+)$')`,message="this name may be another device after the next boot; use one that stays: a link in /dev/disk/by-id, /dev/disk/by-partuuid or /dev/disk/by-path"
	// +kubebuilder:validation:MaxLength=4096
	Device string `json:"device"`

	// FSType is ext4, xfs or btrfs; "" is what is there. It must be said where the driver may make it.
	//
	// +kubebuilder:validation:Enum="";ext4;xfs;btrfs
	FSType string `json:"fsType,omitempty"`

	// MountOptions beside the driver's own.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MountOptions []string `json:"mountOptions,omitempty"`

	// Provision IfEmpty lets the driver make the file system on a blank device.
	Provision ProvisionPolicy `json:"provision,omitempty"`

	// Initialize lets the driver make its marker in a file system that is not empty. What lies there already is
	// never touched.
	Initialize bool `json:"initialize,omitempty"`

	// AdoptFrom is the machine-id of the host that the disk was moved from.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9a-f-]*$')`,message="a machine-id: hexadecimal digits, as in /etc/machine-id"
	// +kubebuilder:validation:MaxLength=64
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// DiskSpec are the settings of type disk.
type DiskSpec struct {
	// Devices are the pool's disks: stable paths, such as links in /dev/disk/by-id.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:items:XValidation:rule=`self.startsWith('/dev/') && self.matches(r'^(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))+$')`,message="a path below /dev, without '.', '..' and empty parts, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^/dev/((s|h|v|xv)d[a-z]+[0-9]*|(nvme[0-9]+n|mmcblk|md)[0-9]+(p[0-9]+)?|dm-[0-9]+)$')`,message="this name may be another device after the next boot; use one that stays: a link in /dev/disk/by-id, /dev/disk/by-partuuid or /dev/disk/by-path"
	// +kubebuilder:validation:MinItems=1
	Devices []string `json:"devices"`

	// Whole makes each disk one volume. Otherwise volumes are partitions.
	Whole bool `json:"whole,omitempty"`

	// AdoptFrom is the machine-id of the host that the disks were moved from.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9a-f-]*$')`,message="a machine-id: hexadecimal digits, as in /etc/machine-id"
	// +kubebuilder:validation:MaxLength=64
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// LVMSpec are the settings of type lvm.
//
// +kubebuilder:validation:XValidation:rule="!has(self.provision) || self.provision != 'IfEmpty' || (has(self.devices) && self.devices.size() > 0)",message="devices says what to make the volume group of"
// +kubebuilder:validation:XValidation:rule="!has(self.thinPool) || !has(self.defaults) || !(has(self.defaults.redundancy) && self.defaults.redundancy.size() > 0 || has(self.defaults.stripes) && self.defaults.stripes != 0 || has(self.defaults.snapshotSize) && self.defaults.snapshotSize.size() > 0)",message="volumes in a thin pool have the layout of the pool, and their snapshots share its space: spec.lvm.defaults stays empty"
type LVMSpec struct {
	// VolumeGroup by its name. Once the driver has opened it, it is known by its UUID.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$') && !(self in ['.', '..'])`,message="letters, digits, '+', '_', '.' and '-', not beginning with '-' (lvm(8))"
	// +kubebuilder:validation:MaxLength=127
	VolumeGroup string `json:"volumeGroup"`

	// Devices that the volume group lies on, or is made of: stable paths, such as links in /dev/disk/by-id. Empty
	// means those that the volume group is found on.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:items:XValidation:rule=`self.startsWith('/dev/') && self.matches(r'^(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))+$')`,message="a path below /dev, without '.', '..' and empty parts, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^/dev/((s|h|v|xv)d[a-z]+[0-9]*|(nvme[0-9]+n|mmcblk|md)[0-9]+(p[0-9]+)?|dm-[0-9]+)$')`,message="this name may be another device after the next boot; use one that stays: a link in /dev/disk/by-id, /dev/disk/by-partuuid or /dev/disk/by-path"
	Devices []string `json:"devices,omitempty"`

	// Provision IfEmpty lets the driver make the volume group and the thin pool on blank devices.
	Provision ProvisionPolicy `json:"provision,omitempty"`

	// ThinPool makes the datastore one of thin volumes, all of which lie in it. Without it all volumes are thick.
	ThinPool *ThinPoolSpec `json:"thinPool,omitempty"`

	// Defaults hold for volumes where a StorageClass says nothing.
	Defaults LVMDefaults `json:"defaults,omitempty"`

	// AdoptFrom is the machine-id of the host that the disks were moved from.
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9a-f-]*$')`,message="a machine-id: hexadecimal digits, as in /etc/machine-id"
	// +kubebuilder:validation:MaxLength=64
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// ThinPoolSpec is a thin pool in the volume group. Its sizes hold when the driver makes it.
type ThinPoolSpec struct {
	//
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$') && !(self in ['.', '..'])`,message="letters, digits, '+', '_', '.' and '-', not beginning with '-' (lvm(8))"
	// +kubebuilder:validation:MaxLength=127
	Name string `json:"name"`

	// Size is a share of the volume group ("80%") or a quantity of bytes ("1Ti"); "" is all but what the pool needs to
	// be repaired and extended.
	//
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^0*([1-9]|[1-9][0-9]|100)%$') || (isQuantity(self) && quantity(self).isGreaterThan(quantity('0')))",message="a share (20%) or a quantity of bytes (20Gi)"
	// +kubebuilder:validation:MaxLength=64
	Size string `json:"size,omitempty"`

	// MetadataSize in bytes; absent leaves it to LVM.
	//
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",message="a quantity of bytes, more than 0"
	MetadataSize *resource.Quantity `json:"metadataSize,omitempty"`

	// ChunkSize in bytes: from 64Ki to 1Gi, a multiple of 64Ki (lvmthin(7)); absent leaves it to LVM.
	//
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 65536 && quantity(string(self)).asInteger() <= 1073741824 && quantity(string(self)).asInteger() % 65536 == 0",message="from 64Ki to 1Gi, a multiple of 64Ki"
	ChunkSize *resource.Quantity `json:"chunkSize,omitempty"`

	// AutoExtend lets the pool grow by itself while the volume group has room.
	AutoExtend *AutoExtendSpec `json:"autoExtend,omitempty"`
}

// AutoExtendSpec says when a thin pool grows, by how much, and up to where.
type AutoExtendSpec struct {
	// Threshold is the share of data or metadata in use, in percent, at which the pool grows; 0 is 80.
	//
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 50 && self <= 99",message="from 50 to 99 percent"
	Threshold int32 `json:"threshold,omitempty"`
	// By so many percent of its size it grows; 0 is 20.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	By int32 `json:"by,omitempty"`
	// Max is a share of the volume group or a quantity of bytes; "" is all of it.
	//
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^0*([1-9]|[1-9][0-9]|100)%$') || (isQuantity(self) && quantity(self).isGreaterThan(quantity('0')))",message="a share (20%) or a quantity of bytes (20Gi)"
	// +kubebuilder:validation:MaxLength=64
	Max string `json:"max,omitempty"`
}

// LVMDefaults are those of the parameters that only logical volumes have.
type LVMDefaults struct {
	Redundancy Redundancy `json:"redundancy,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	Stripes int32 `json:"stripes,omitempty"`
	// SnapshotSize is how much a snapshot of a thick volume can take up: a share of the volume ("20%") or a quantity
	// of bytes.
	//
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^0*([1-9]|[1-9][0-9]|100)%$') || (isQuantity(self) && quantity(self).isGreaterThan(quantity('0')))",message="a share (20%) or a quantity of bytes (20Gi)"
	// +kubebuilder:validation:MaxLength=64
	SnapshotSize string `json:"snapshotSize,omitempty"`
}

// Redundancy says how many disks a volume can lose.
//
// +kubebuilder:validation:Enum="";None;Mirror;Parity;DoubleParity
type Redundancy string

// The kinds of redundancy; "" leaves it to the datastore.
const (
	RedundancyNone Redundancy = "None"
	// Mirror keeps two copies (RAID 1, striped: RAID 10).
	Mirror Redundancy = "Mirror"
	// Parity survives the loss of one disk (RAID 5), DoubleParity of two (RAID 6).
	Parity       Redundancy = "Parity"
	DoubleParity Redundancy = "DoubleParity"
)
