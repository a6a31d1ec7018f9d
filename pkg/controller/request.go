package controller

import "github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"

// CreateRequest asks for a volume.
type CreateRequest struct {
	// Name is the caller's; the same name again asks for the same volume.
	Name string
	Range
	Access v1alpha1.VolumeAccess
	// Filesystem of the capability: ext4, xfs, btrfs, or "" where the parameters or the default decide.
	Filesystem string
	// MountFlags of the capability; they are checked so that a bad one is refused before anything is made.
	MountFlags []string
	// Parameters of the StorageClass, with the provisioner's own.
	Parameters map[string]string
	// Mutable parameters, of the VolumeAttributesClass.
	Mutable map[string]string
	// Source that the volume is to be a copy of; nil for an empty volume.
	Source *Source
	Topology
}

// Source names what a volume is to be a copy of, by its ID.
type Source struct {
	Kind v1alpha1.SourceKind
	ID   string
}

// Range is a size in bytes: at least Required, at most Limit; 0 says nothing.
type Range struct{ Required, Limit int64 }

// Topology says from where a volume must be usable, and from where it should be. Hosts stand there by
// their topology values (v1alpha1.HostSegment).
type Topology struct {
	// Requisite hosts: the volume must be usable from one of them. Empty is any.
	Requisite []string
	// Preferred hosts, best first; each is among the requisite ones where there are any.
	Preferred []string
}

// PublishRequest asks that a host may use a volume.
type PublishRequest struct {
	ID, Host string
	Use
	ReadOnly bool
	// MaxVolumes that the host may use at a time; 0 is no bound.
	MaxVolumes int64
}

// Use is how a volume is to be used: a volume capability.
type Use struct {
	// Access is what the consumer gets, Mode the access mode by its name in the CSI specification,
	// Filesystem the capability's or "".
	Access     v1alpha1.AccessType
	Mode       string
	Filesystem string
	// MountFlags of the capability; not yet checked.
	MountFlags []string
}

// CapacityRequest asks how much can still be promised.
type CapacityRequest struct {
	Access     v1alpha1.VolumeAccess
	Filesystem string
	Parameters map[string]string
	// Topology says from where the volumes must be usable.
	Topology
}

// Capacity is an answer in bytes.
type Capacity struct {
	// Available is the sum over the datastores that the request matches.
	Available int64
	// Largest is the size of the largest single volume, Smallest of the smallest.
	Largest, Smallest int64
}

// Page is a part of a list that is sorted by ID.
type Page[T any] struct {
	Entries []T
	// Next is the token of the next page, or "" after the last.
	Next string
}

// Expanded is what became of a volume that was to grow.
type Expanded struct {
	Bytes int64
	// OnNode tells that each node that uses the volume has a part of the work.
	OnNode bool
}

// SnapshotRequest asks for a snapshot of a volume.
type SnapshotRequest struct {
	// Name is the caller's; the same name again asks for the same snapshot.
	Name string
	// Volume is the ID of the source.
	Volume string
	// Parameters of the VolumeSnapshotClass, with the snapshotter's own.
	Parameters map[string]string
	// Topology says from where volumes made of the snapshot must be usable.
	Topology
}

// SnapshotFilter chooses snapshots; what is empty chooses all.
type SnapshotFilter struct {
	// ID of one snapshot, Volume the ID of a source.
	ID, Volume string
}

// Health says what is wrong with a volume; no problem is known where there are none.
type Health struct {
	ID       string
	Problems []v1alpha1.Problem
}
