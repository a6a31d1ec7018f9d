package datastore

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Volume is what a pool needs to know of a volume's record.
type Volume struct {
	// ID is the record's name, Name the one that CreateVolume was called with, UID the one that the mark bears.
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
	Quota      v1alpha1.QuotaPolicy
	Parameters map[string]string
	Created    time.Time
	// OnDelete and Wipe as the record says; "" leaves them to the datastore.
	OnDelete v1alpha1.DeletePolicy
	Wipe     v1alpha1.WipePolicy
	// Snapshot tells that it is one: never opened, never changed.
	Snapshot bool
	// SourceID of a snapshot is its volume's ID.
	SourceID string
}

// FromRecord returns what a pool needs to know of a record.
func FromRecord(r *v1alpha1.DatastoreVolume) Volume {
	return Volume{
		ID: r.Name, Name: r.Spec.Name, UID: string(cmp.Or(r.Spec.StorageUID, r.UID)), ClusterID: r.Spec.ClusterID, Labels: r.Labels,
		Bytes: r.Spec.Size.Value(), Provisioning: r.Spec.Provisioning, Format: r.Spec.Format,
		Access: r.Spec.Access.Type, Modes: r.Spec.Access.Modes, Filesystem: r.Spec.Filesystem, Quota: r.Spec.Quota,
		Parameters: r.Spec.Parameters, Created: r.CreationTimestamp.Time, OnDelete: r.Spec.OnDelete, Wipe: r.Spec.Wipe,
	}
}

// FromSnapshot returns what a pool needs to know of a snapshot's record.
func FromSnapshot(r *v1alpha1.DatastoreSnapshot) Volume {
	return Volume{
		ID: r.Name, Name: r.Spec.Name, UID: string(cmp.Or(r.Spec.StorageUID, r.UID)), ClusterID: r.Spec.ClusterID, Labels: r.Labels,
		Bytes: r.Spec.Size.Value(), Provisioning: r.Spec.Provisioning, Format: r.Spec.Format,
		Access: r.Spec.Access.Type, Modes: r.Spec.Access.Modes, Filesystem: r.Spec.Filesystem, Quota: r.Spec.Quota,
		Parameters: r.Spec.Parameters, Created: r.CreationTimestamp.Time, Wipe: r.Spec.Wipe, Snapshot: true,
		SourceID: r.Spec.Volume,
	}
}

// FromSource returns what a pool needs to know of the source of a volume to find it.
func FromSource(s *v1alpha1.VolumeSource, clusterID string) *Volume {
	if s == nil {
		return nil
	}
	return &Volume{ID: s.Name, UID: string(s.UID), ClusterID: clusterID, Snapshot: s.Kind == v1alpha1.SourceSnapshot}
}

// snapshotPrefix tells a snapshot's key: no ID holds a slash.
const snapshotPrefix = "snapshot/"

// Key tells a volume from a snapshot of the same ID.
func (v Volume) Key() string {
	if v.Snapshot {
		return snapshotPrefix + v.ID
	}
	return v.ID
}

// ParseKey is the inverse of Volume.Key.
func ParseKey(key string) (id string, snapshot bool) { return strings.CutPrefix(key, snapshotPrefix) }

// IsSnapshot tells whether a key is a snapshot's.
func IsSnapshot(key string) bool { return strings.HasPrefix(key, snapshotPrefix) }

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
