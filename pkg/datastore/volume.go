package datastore

import (
	"fmt"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Volume is what a pool needs to know of a volume's record.
type Volume struct {
	// ID is the record's name, Name the one that CreateVolume was called with, UID the record's.
	ID, Name, UID string
	ClusterID     string
	// Labels that the volume's mark carries: claim, namespace.
	Labels       map[string]string
	Bytes        int64
	Provisioning v1alpha1.Provisioning
	Format       v1alpha1.VolumeFormat
	Access       v1alpha1.AccessType
	// Modes, by their names in the CSI specification.
	Modes []string
	// Filesystem to make; nil for raw block.
	Filesystem *v1alpha1.FilesystemSpec
	Parameters map[string]string
	Created    time.Time
}

// FromRecord returns what a pool needs to know of a record.
func FromRecord(r *v1alpha1.DatastoreVolume) Volume {
	return Volume{
		ID: r.Name, Name: r.Spec.Name, UID: string(r.UID), ClusterID: r.Spec.ClusterID, Labels: r.Labels,
		Bytes: r.Spec.Size.Value(), Provisioning: r.Spec.Provisioning, Format: r.Spec.Format,
		Access: r.Spec.Access.Type, Modes: r.Spec.Access.Modes, Filesystem: r.Spec.Filesystem,
		Parameters: r.Spec.Parameters, Created: r.CreationTimestamp.Time,
	}
}

// uidDigits of a record's UID tell a volume from an earlier one of the same name.
const uidDigits = 8

// BackendName is the volume's name on its storage: its ID and the first hexadecimal digits of its
// record's UID, so that a name which comes again while the old volume is being wiped cannot collide.
func (v Volume) BackendName() string {
	uid := strings.ReplaceAll(v.UID, "-", "")
	return v.ID + "-" + uid[:min(uidDigits, len(uid))]
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

func list(allowed []string) string { return "[" + strings.Join(allowed, ", ") + "]" }

func words[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, w := range in {
		out[i] = string(w)
	}
	return out
}
