package datastore

import (
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Reach says who can use a volume.
type Reach string

// ReachHost volumes can be used on the host of their pool only.
const ReachHost Reach = "Host"

// Capabilities are data: placement, the advertised CSI capabilities and the conformance suite derive
// from them.
type Capabilities struct {
	AccessTypes  []v1alpha1.AccessType
	Formats      []v1alpha1.VolumeFormat
	Provisioning []v1alpha1.Provisioning
	// Filesystems that the type can make on a volume.
	Filesystems []string
	Reach       Reach
	// Expand tells that volumes can grow, online too.
	Expand bool
	// Snapshot and Clone tell that volumes can be snapshot, and made as copies of snapshots and volumes.
	// Where the pool lacks the feature for the volume's format (v1alpha1.InstantCopies), the source must not
	// be in use while it is copied.
	Snapshot, Clone bool
	// Redundancy that volumes can have, beside none; Stripes tells that they can be striped.
	Redundancy []v1alpha1.Redundancy
	Stripes    bool
	// SnapshotSize tells that a snapshot has a size of its own.
	SnapshotSize bool
	// OnDelete and Wipe are what can become of a volume's data.
	OnDelete []v1alpha1.DeletePolicy
	Wipe     []v1alpha1.WipePolicy
	// Granularity in bytes: sizes are multiples of it.
	Granularity int64
	// MinBytes is the smallest volume with that file system, or without one ("").
	MinBytes func(filesystem string) int64
}

// Missing returns what the capabilities lack for a volume, as sentences that name what is allowed; none
// means that it can be served.
func (c Capabilities) Missing(v Volume) []string {
	var lacks []string
	lack := func(what, got string, allowed []string) {
		if !slices.Contains(allowed, got) {
			lacks = append(lacks, what+" "+quote(got)+" is not one of "+list(allowed))
		}
	}
	lack("access", string(v.Access), words(c.AccessTypes))
	lack("format", string(v.Format), words(c.Formats))
	lack("provisioning", strings.ToLower(string(v.Provisioning)), lower(words(c.Provisioning))) // as the parameter has it
	if v.Filesystem != nil {
		lack("file system", v.Filesystem.Type, c.Filesystems)
	}
	if r := v.Redundancy; r != "" && r != v1alpha1.RedundancyNone && !slices.Contains(c.Redundancy, r) {
		lack("redundancy", string(r), words(append([]v1alpha1.Redundancy{v1alpha1.RedundancyNone}, c.Redundancy...)))
	}
	if v.Stripes > 1 && !c.Stripes {
		lacks = append(lacks, "volumes are not striped")
	}
	return lacks
}
