package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// ProvisionPolicy says whether the driver may make what a datastore lies on: a file system, a volume group.
type ProvisionPolicy string

// The provision policies.
const (
	// ProvisionNever takes what is there.
	ProvisionNever ProvisionPolicy = "Never"
	// ProvisionIfEmpty makes it on devices that are blank by every probe, and on no others.
	ProvisionIfEmpty ProvisionPolicy = "IfEmpty"
)

// PartitionSpec are the settings of type partition.
type PartitionSpec struct {
	// Device that bears the file system: a stable path, such as a link in /dev/disk/by-partuuid.
	Device string `json:"device"`

	// FSType is ext4, xfs or btrfs; "" is what is there. It must be said where the driver may make it.
	FSType string `json:"fsType,omitempty"`

	// MountOptions beside the driver's own.
	MountOptions []string `json:"mountOptions,omitempty"`

	// Provision IfEmpty lets the driver make the file system on a blank device.
	Provision ProvisionPolicy `json:"provision,omitempty"`

	// Initialize lets the driver make its marker in a file system that is not empty. What lies there already is
	// never touched.
	Initialize bool `json:"initialize,omitempty"`

	// AdoptFrom is the machine-id of the host that the disk was moved from.
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// DiskSpec are the settings of type disk.
type DiskSpec struct {
	// Devices are the pool's disks: stable paths, such as links in /dev/disk/by-id.
	Devices []string `json:"devices"`

	// Whole makes each disk one volume. Otherwise volumes are partitions.
	Whole bool `json:"whole,omitempty"`

	// AdoptFrom is the machine-id of the host that the disks were moved from.
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// LVMSpec are the settings of type lvm.
type LVMSpec struct {
	// VolumeGroup by its name. Once the driver has opened it, it is known by its UUID.
	VolumeGroup string `json:"volumeGroup"`

	// Devices that the volume group lies on, or is made of: stable paths, such as links in /dev/disk/by-id. Empty
	// means those that the volume group is found on.
	Devices []string `json:"devices,omitempty"`

	// Provision IfEmpty lets the driver make the volume group and the thin pool on blank devices.
	Provision ProvisionPolicy `json:"provision,omitempty"`

	// ThinPool makes the datastore one of thin volumes, all of which lie in it. Without it all volumes are thick.
	ThinPool *ThinPoolSpec `json:"thinPool,omitempty"`

	// Defaults hold for volumes where a StorageClass says nothing.
	Defaults LVMDefaults `json:"defaults,omitempty"`

	// AdoptFrom is the machine-id of the host that the disks were moved from.
	AdoptFrom string `json:"adoptFrom,omitempty"`
}

// ThinPoolSpec is a thin pool in the volume group. Its sizes hold when the driver makes it.
type ThinPoolSpec struct {
	Name string `json:"name"`

	// Size is a share of the volume group ("80%") or a quantity of bytes ("1Ti"); "" is all but what the pool needs to
	// be repaired and extended.
	Size string `json:"size,omitempty"`

	// MetadataSize in bytes; absent leaves it to LVM.
	MetadataSize *resource.Quantity `json:"metadataSize,omitempty"`

	// ChunkSize in bytes: from 64Ki to 1Gi, a multiple of 64Ki (lvmthin(7)); absent leaves it to LVM.
	ChunkSize *resource.Quantity `json:"chunkSize,omitempty"`

	// AutoExtend lets the pool grow by itself while the volume group has room.
	AutoExtend *AutoExtendSpec `json:"autoExtend,omitempty"`
}

// AutoExtendSpec says when a thin pool grows, by how much, and up to where.
type AutoExtendSpec struct {
	// Threshold is the share of data or metadata in use, in percent, at which the pool grows; 0 is 80.
	Threshold int32 `json:"threshold,omitempty"`
	// By so many percent of its size it grows; 0 is 20.
	By int32 `json:"by,omitempty"`
	// Max is a share of the volume group or a quantity of bytes; "" is all of it.
	Max string `json:"max,omitempty"`
}

// LVMDefaults are those of the parameters that only logical volumes have.
type LVMDefaults struct {
	Redundancy Redundancy `json:"redundancy,omitempty"`
	Stripes    int32      `json:"stripes,omitempty"`
	// SnapshotSize is how much a snapshot of a thick volume can take up: a share of the volume ("20%") or a quantity
	// of bytes.
	SnapshotSize string `json:"snapshotSize,omitempty"`
}

// Redundancy says how many disks a volume can lose.
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
