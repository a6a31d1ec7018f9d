package disk

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// layout is the version of what this package keeps on the storage. It rises with every change that an older version of
// this package must not meet.
const layout = 1

// marker says whose a disk is.
type marker struct {
	Layout    int    `json:"layout"`
	Pool      string `json:"pool"`
	Cluster   string `json:"cluster"`
	Machine   string `json:"machine"`
	Datastore string `json:"datastore"`
	// Host that the pool was made on, as its records name it.
	Host    string    `json:"host,omitempty"`
	Created time.Time `json:"created"`

	// WWID and Serial of the disk when it was taken: they tell it from its clones.
	WWID   string `json:"wwid,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Starting disks have no table yet, and hold nothing.
	Starting bool `json:"starting,omitempty"`
	// Clean are the parts of the disk that read as zeroes where no volume lies, in order.
	Clean []gpt.Span `json:"clean,omitempty"`
}

func parseMarker(data []byte) (marker, error) {
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return marker{}, fault.New(fault.Precondition, "the pool's marker on it can't be understood: %w; nothing was changed", err)
	}
	if m.Layout != layout {
		return marker{}, fault.New(fault.Precondition, "the pool's marker on it has layout %d, this version knows %d; use the version that made it", m.Layout, layout)
	}
	if m.Pool == "" {
		return marker{}, fault.New(fault.Precondition, "the pool's marker on it names no pool; nothing was changed")
	}
	return m, nil
}

// judge tells whether a disk with that marker belongs to the datastore on this machine. The machine is left to the caller.
func (m marker) judge(c datastore.Config) error {
	switch {
	case m.Cluster != c.ClusterID:
		return another(fault.New(fault.Precondition, "it belongs to a pool of cluster %q, this is cluster %q; give each cluster disks of its own", m.Cluster, c.ClusterID))
	case m.Datastore != c.Datastore.Name:
		return another(fault.New(fault.Precondition, "it belongs to datastore %q, not to %q; use that name or other disks", m.Datastore, c.Datastore.Name))
	case c.PoolUUID != "" && m.Pool != c.PoolUUID:
		return another(fault.New(fault.Unavailable, "it belongs to pool %s, not to pool %s of datastore %q", m.Pool, c.PoolUUID, c.Datastore.Name))
	case m.Machine != c.MachineID && m.Machine != c.Datastore.Spec.Disk.AdoptFrom:
		return another(fault.New(fault.Precondition, "it belongs to the machine with machine-id %s, this is %s; if it was moved here for good, set "+
			"spec.disk.adoptFrom to the former", m.Machine, c.MachineID))
	}
	return nil
}

// another is the error of a pool that is somebody else's.
func another(err error) error { return &datastore.ForeignError{Err: err} }

// phase is how far the volume of a partition is.
type phase string

const (
	making    phase = "Making"
	ready     phase = "Whole"
	retained  phase = "Retained"
	archived  phase = "Archived"
	remainder phase = "Remainder"
)

// mark says what a partition is: whose it is, and what rebuilds its record.
type mark struct {
	Layout int   `json:"layout"`
	Phase  phase `json:"phase"`
	// Partition is the GUID of the partition, Span its place in bytes.
	Partition string   `json:"partition"`
	Span      gpt.Span `json:"span"`

	ID           string                   `json:"id"`
	Name         string                   `json:"name"`
	UID          string                   `json:"uid"`
	Cluster      string                   `json:"cluster"`
	Bytes        int64                    `json:"bytes"`
	Provisioning v1alpha1.Provisioning    `json:"provisioning"`
	Access       v1alpha1.AccessType      `json:"access"`
	Modes        []string                 `json:"modes"`
	Filesystem   *v1alpha1.FilesystemSpec `json:"filesystem,omitempty"`
	Labels       map[string]string        `json:"labels,omitempty"`
	Parameters   map[string]string        `json:"parameters,omitempty"`
	Created      time.Time                `json:"created"`
	OnDelete     v1alpha1.DeletePolicy    `json:"onDelete,omitempty"`
	Wipe         v1alpha1.WipePolicy      `json:"wipe,omitempty"`
	// Source of a copy.
	Source *origin `json:"source,omitempty"`

	// Clean tells that the space read as zeroes when it was taken.
	Clean bool `json:"clean,omitempty"`
	// Done is up to where a volume that is made is zeroed or copied, or a remainder wiped, in bytes; Noted is when that
	// was written.
	Done  int64     `json:"done,omitempty"`
	Noted time.Time `json:"noted,omitzero"`
	// Grow is the size to which a volume is growing, or 0. Its space is taken, and not the partition's yet.
	Grow int64 `json:"grow,omitempty"`
	// Order is what must be done at least to the bytes before they are given back.
	Order v1alpha1.WipePolicy `json:"order,omitempty"`
	// Kept is when the volume was deleted, and its data retained or archived.
	Kept *time.Time `json:"kept,omitempty"`
}

// origin names what a copy was made of.
type origin struct {
	ID  string `json:"id"`
	UID string `json:"uid"`
}

func parseMark(data []byte) (mark, error) {
	var k mark
	if err := json.Unmarshal(data, &k); err != nil {
		return mark{}, fault.New(fault.Precondition, "its mark can't be understood: %w", err)
	}
	if k.Layout != layout {
		return mark{}, fault.New(fault.Precondition, "its mark has layout %d, this version knows %d; use the version that made it", k.Layout, layout)
	}
	if _, err := gpt.ParseGUID(k.Partition); err != nil {
		return mark{}, fault.New(fault.Precondition, "its mark names no partition: %w", err)
	}
	const most = 1 << 60
	if k.Span.Start < metaStart+metaBytes || k.Span.Bytes < granularity || k.Span.Start > most || k.Span.Bytes > most || k.Bytes > k.Span.Bytes || k.Grow > most {
		return mark{}, fault.New(fault.Precondition, "its mark says that it has bytes %d to %d of the disk", k.Span.Start, k.Span.End())
	}
	return k, nil
}

func markOf(v datastore.Volume, s gpt.Span) mark {
	return mark{
		Layout: layout, Phase: making, Partition: partitionOf(v).String(), Span: s,
		ID: v.ID, Name: v.Name, UID: v.UID, Cluster: v.ClusterID, Bytes: s.Bytes, Provisioning: v.Provisioning, Access: v.Access,
		Modes: v.Modes, Filesystem: v.Filesystem, Labels: v.Labels, Parameters: v.Parameters, Created: v.Created.UTC(),
		OnDelete: v.OnDelete, Wipe: v.Wipe,
	}
}

// partitionOf is the GUID of a volume's partition: the same whenever it is made.
func partitionOf(v datastore.Volume) gpt.GUID {
	return gpt.Derived(space().UUID, v.ClusterID+"\x00"+v.ID+"\x00"+v.UID)
}

// space is that of the GUIDs which this package derives.
func space() gpt.GUID { return gpt.MustParse("5c6ff0f1-1d0c-4a0e-9a43-3d3f4c5a7e10") }

// The types of partitions that this package makes. One type serves volumes in every phase: what a partition is, its mark
// says.
func volumeType() gpt.GUID   { return gpt.MustParse("8f1e6a7c-6f0b-4d7e-9c11-2b6a4f3f9d52") }
func metadataType() gpt.GUID { return gpt.MustParse("3a9d5b0e-52f4-4a6c-8a8b-7d1c0e9b6f21") }

// of tells whether a mark is the volume's.
func (k mark) of(v datastore.Volume) bool {
	return k.ID == v.ID && k.UID == v.UID && k.Cluster == v.ClusterID && !v.Snapshot
}

// there tells whether the volume was made, and not deleted.
func (k mark) there() bool { return k.Phase == ready || k.Phase == retained }

// keeps tells whether a volume was deleted, and its data kept.
func (k mark) keeps() bool { return k.Phase == retained || k.Phase == archived }

// takes is the place that the mark keeps others off.
func (k mark) takes() gpt.Span {
	return gpt.Span{Start: k.Span.Start, Bytes: max(k.Span.Bytes, k.Grow)}
}

// volume is what the mark says of one.
func (k mark) volume() datastore.Volume {
	return datastore.Volume{
		ID: k.ID, Name: k.Name, UID: k.UID, ClusterID: k.Cluster, Labels: k.Labels, Bytes: k.Bytes,
		Provisioning: k.Provisioning, Format: v1alpha1.FormatDevice, Access: k.Access, Modes: k.Modes, Filesystem: k.Filesystem,
		Parameters: k.Parameters, Created: k.Created, OnDelete: k.OnDelete, Wipe: k.Wipe,
	}
}

// strength ranks wipes: what was once ordered is never taken back. The default is the one that hides every byte.
func strength(w v1alpha1.WipePolicy) int {
	switch w {
	case v1alpha1.WipeNone:
		return 0
	case v1alpha1.WipeDiscard:
		return 1
	}
	return 2
}

func strongest(first v1alpha1.WipePolicy, others ...v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	for _, w := range others {
		if strength(w) > strength(first) {
			first = w
		}
	}
	return first
}

// ordered is what is to be done to bytes for which that is asked.
func ordered(asked, standing v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	asked = cmp.Or(asked, v1alpha1.WipeZero)
	if standing == "" {
		return asked
	}
	return strongest(asked, standing)
}

// check refuses volumes that a pool of that cluster can't have, hostile names first.
func check(v datastore.Volume, cluster string) error {
	const maxID, maxUID = 63, 64
	if !plain(v.ID, maxID) {
		return fault.New(fault.Invalid, "volume ID %q is refused: it must be 1 to %d letters, digits, '-', '_' and '.', the first a letter or digit", shorten(v.ID), maxID)
	}
	if !plain(v.UID, maxUID) {
		return fault.New(fault.Invalid, "record UID %q of volume %q is refused: it must be 1 to %d letters, digits and '-'", shorten(v.UID), v.ID, maxUID)
	}
	if v.ClusterID != cluster {
		return fault.New(fault.Precondition, "the volume is of cluster %q, the datastore of cluster %q", shorten(v.ClusterID), cluster)
	}
	return nil
}

// plain tells whether s is a name that means nothing special to anybody.
func plain(s string, limit int) bool {
	if s == "" || len(s) > limit || strings.ContainsRune("-_.", rune(s[0])) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}) < 0
}

// shorten bounds what of a stranger's text goes into an error.
func shorten(s string) string {
	const shown = 64
	if len(s) > shown {
		return s[:shown] + "..."
	}
	return s
}
