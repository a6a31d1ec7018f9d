package stage

import "github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"

// Request asks to stage a volume: to reach, verify and mount it once on this host.
type Request struct {
	ID string
	// Generation of the attachment, from the publish context.
	Generation int64
	// Path of the staging directory, which exists.
	Path   string
	Access v1alpha1.AccessType
	// Mode is the access mode, by its name in the CSI specification.
	Mode string
	// Filesystem of the capability, or "".
	Filesystem string
	// MountFlags of the capability; not yet checked.
	MountFlags []string
}

// PublishRequest asks to make a staged volume visible at a path.
type PublishRequest struct {
	ID string
	// StagingPath of the staged volume, Path of the target, whose parent exists.
	StagingPath, Path string
	Access            v1alpha1.AccessType
	Mode              string
	Filesystem        string
	MountFlags        []string
	ReadOnly          bool
}

// Stats are what a published or staged volume uses and has left.
type Stats struct {
	// Block tells that only TotalBytes is known.
	Block                                    bool
	TotalBytes, UsedBytes, AvailableBytes    int64
	TotalInodes, UsedInodes, AvailableInodes int64
}
