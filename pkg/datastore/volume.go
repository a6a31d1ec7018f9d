package datastore

import (
	"cmp"
	"fmt"
	"math"
	"sort"
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
	// Redundancy and Stripes of a logical volume; "" is none, 0 stripes are as many as suit.
	Redundancy v1alpha1.Redundancy
	Stripes    int
	// SnapshotSize is how much the snapshot of a thick logical volume can take up; "" is the datastore's.
	SnapshotSize v1alpha1.ShareOrBytes
	Parameters   map[string]string
	Created      time.Time
	// Location and Identity are what the record's status says of the storage; "" until the volume was made.
	Location, Identity string
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
		Redundancy: r.Spec.Redundancy, Stripes: int(r.Spec.Stripes),
		Parameters: r.Spec.Parameters, Created: r.CreationTimestamp.Time, OnDelete: r.Spec.OnDelete, Wipe: r.Spec.Wipe,
		Location: r.Status.Worker.Location, Identity: r.Status.Worker.Identity,
	}
}

// FromSnapshot returns what a pool needs to know of a snapshot's record.
func FromSnapshot(r *v1alpha1.DatastoreSnapshot) Volume {
	return Volume{
		ID: r.Name, Name: r.Spec.Name, UID: string(cmp.Or(r.Spec.StorageUID, r.UID)), ClusterID: r.Spec.ClusterID, Labels: r.Labels,
		Bytes: r.Spec.Size.Value(), Provisioning: r.Spec.Provisioning, Format: r.Spec.Format,
		Access: r.Spec.Access.Type, Modes: r.Spec.Access.Modes, Filesystem: r.Spec.Filesystem, Quota: r.Spec.Quota,
		Parameters: r.Spec.Parameters, Created: r.CreationTimestamp.Time, Wipe: r.Spec.Wipe, Snapshot: true,
		SourceID: r.Spec.Volume, SnapshotSize: v1alpha1.ShareOrBytes(r.Spec.SnapshotSize),
		Location: r.Status.Worker.Location, Identity: r.Status.Worker.Identity,
	}
}

// FromSource returns what a pool needs to know of the source of a volume to find it.
func FromSource(s *v1alpha1.VolumeSource, clusterID string) *Volume {
	if s == nil {
		return nil
	}
	return &Volume{ID: s.Name, UID: string(s.UID), ClusterID: clusterID, Snapshot: s.Kind == v1alpha1.SourceSnapshot}
}

// The disks that hold data in a volume with parity whose stripes nobody chose, at least: RAID 5 of three disks, RAID 6 of
// five (lvmraid(7)).
const (
	leastParityStripes       = 2
	leastDoubleParityStripes = 3
)

// Takes is how many bytes of its pool's promises a volume takes: more than its size where its bytes are kept twice, or
// with parity. It may be a little less than that: what the pool keeps of its own is for the pool to count.
func (v Volume) Takes() int64 {
	switch v.Redundancy {
	case v1alpha1.Mirror:
		return withParity(v.Bytes, 1, 1)
	case v1alpha1.Parity:
		return withParity(v.Bytes, int64(cmp.Or(v.Stripes, leastParityStripes)), 1)
	case v1alpha1.DoubleParity:
		return withParity(v.Bytes, int64(cmp.Or(v.Stripes, leastDoubleParityStripes)), 2)
	}
	return v.Bytes
}

// Fitting is the size of the largest volume of this kind, a multiple of granularity, that takes no more than room.
func (v Volume) Fitting(room, granularity int64) int64 {
	fits := func(units int64) bool {
		v.Bytes = units * granularity
		return v.Takes() <= room
	}
	// The least number of units that doesn't fit is one more than the answer.
	return int64(sort.Search(int(max(0, room)/granularity), func(n int) bool { return !fits(int64(n) + 1) })) * granularity
}

// withParity is what so many bytes take on so many disks with data and with parity.
func withParity(bytes, data, parity int64) int64 {
	more := bytes / data
	if bytes%data > 0 {
		more++
	}
	if more > (math.MaxInt64-bytes)/parity {
		return math.MaxInt64
	}
	return bytes + more*parity
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

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, w := range in {
		out[i] = strings.ToLower(w)
	}
	return out
}

func words[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, w := range in {
		out[i] = string(w)
	}
	return out
}
