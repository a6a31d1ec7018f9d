package lvm

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// VolumeGroup is a volume group as a report shows it. Sizes are bytes unless they are called extents. What a Group hands
// out is the caller's to read; nobody changes it.
type VolumeGroup struct {
	UUID, Name string
	// Seqno counts the changes of the metadata.
	Seqno int64
	// Epoch is another number whenever somebody else than its Group has changed the group, or may have. What was known of free extents
	// does not hold from one to the next.
	Epoch int64
	Tags  []string
	// SystemID of the host that may use the group; "" is any. LockType is what keeps several hosts apart; "" or "none" is nothing.
	SystemID, LockType  string
	Exported, Clustered bool
	ReadOnly            bool
	ExtentSize          int64
	Extents             int64
	FreeExtents         int64
	// MetadataFree and MetadataSize are of the smallest metadata area.
	MetadataFree, MetadataSize int64
	MissingPVs                 int
	PVs                        []PhysicalVolume
	// Free are the free extents. They are not known (Layout) after a change that left it to LVM which ones it takes.
	Free   []Range
	Layout bool
	// LVs by name, and what extents each has, parts of others (a raid's legs, a pool's data) too.
	LVs      map[string]LogicalVolume
	occupied map[string][]Range
}

// PhysicalVolume is one device of a group.
type PhysicalVolume struct {
	UUID string
	// Device path, or "" where it is missing.
	Device  string
	Missing bool
	Size    int64
	Extents int64
	Used    int64
	// Allocatable is false where the administrator keeps new extents off it.
	Allocatable bool
}

// Range is a run of extents on a physical volume.
type Range struct {
	PV    string // UUID
	Start int64
	Count int64
}

// Kind says what a logical volume is.
type Kind string

// The kinds of logical volume.
const (
	Linear   Kind = "linear"
	Striped  Kind = "striped"
	RAID     Kind = "raid"
	ThinPool Kind = "thin-pool"
	Thin     Kind = "thin"
	Snapshot Kind = "snapshot"
	// Other kinds are not this package's to make: cache, VDO, mirrors of old.
	Other Kind = "other"
)

// LogicalVolume is one volume of a group.
type LogicalVolume struct {
	// UUID is "" of a volume that was just made, until the next report.
	UUID, Name string
	Kind       Kind
	// Segment is LVM's own name of the type: raid5_ls, say.
	Segment string
	// Bytes that it has; of a copy-on-write snapshot, those of its store.
	Bytes int64
	Tags  []string
	// Origin of a snapshot, thin or not, and Pool of a thin volume.
	Origin, Pool string
	// IsOrigin tells that copy-on-write snapshots are of it.
	IsOrigin bool

	// What follows is as of the report, and is false or 0 where the volume was not active.
	Active, Open      bool
	ReadOnly          bool
	ActivationSkipped bool
	Health            Health
	// DataPercent of a pool, thin volume or copy-on-write snapshot is used, MetadataPercent of a pool's metadata.
	DataPercent, MetadataPercent float64
	// SyncPercent of a raid is in sync.
	SyncPercent float64
	// MetadataBytes, ChunkBytes and Zeroing of a thin pool.
	MetadataBytes, ChunkBytes int64
	Zeroing                   bool
	Stripes                   int
}

// HasTag tells whether the volume bears a tag.
func (v LogicalVolume) HasTag(tag string) bool { return slices.Contains(v.Tags, tag) }

// HasTag tells whether the group bears a tag.
func (vg *VolumeGroup) HasTag(tag string) bool { return slices.Contains(vg.Tags, tag) }

// FreeBytes is what can still be allocated.
func (vg *VolumeGroup) FreeBytes() int64 { return vg.FreeExtents * vg.ExtentSize }

// RoundUp returns bytes as a whole number of extents, in extents.
func (vg *VolumeGroup) RoundUp(bytes int64) int64 { return (bytes + vg.ExtentSize - 1) / vg.ExtentSize }

// Occupied returns the extents whose bytes are a volume's own: a raid's superblocks and bitmaps are not among them.
func (vg *VolumeGroup) Occupied(name string) []Range {
	if vg.LVs[name].Kind != RAID {
		return vg.occupied[name]
	}
	var out []Range
	for part, ranges := range vg.occupied {
		if strings.HasPrefix(part, name+"_rimage_") {
			out = append(out, ranges...)
		}
	}
	return out
}

// clone returns a copy that may be changed. Volumes are replaced in it as a whole.
func (vg *VolumeGroup) clone() *VolumeGroup {
	c := *vg
	c.LVs, c.occupied = maps.Clone(vg.LVs), maps.Clone(vg.occupied)
	c.Free = slices.Clone(vg.Free)
	return &c
}

func shorten(s string) string {
	const shown = 64
	if len(s) > shown {
		return strings.ToValidUTF8(s[:shown], "") + "..."
	}
	return s
}

// Takes is what a volume takes of the group, in bytes, its own parts included.
func (vg *VolumeGroup) Takes(name string) int64 {
	n := Count(vg.occupied[name])
	for part, ranges := range vg.occupied {
		if strings.HasPrefix(part, name+"_") && !vg.isVolume(part) {
			n += Count(ranges)
		}
	}
	return n * vg.ExtentSize
}

func (vg *VolumeGroup) isVolume(name string) bool {
	_, ok := vg.LVs[name]
	return ok
}

// LostLegs is how many legs of a raid lie on devices that are missing, and how many it can do without.
func (vg *VolumeGroup) LostLegs(name string) (lost, bear int) {
	missing := map[string]bool{}
	for _, pv := range vg.PVs {
		missing[pv.UUID] = pv.Missing
	}
	legs, gone := 0, map[int]bool{}
	for part, ranges := range vg.occupied {
		number, ok := strings.CutPrefix(part, name+"_rimage_")
		if !ok {
			continue
		}
		legs++
		index, err := strconv.Atoi(number)
		if err == nil && slices.ContainsFunc(ranges, func(r Range) bool { return missing[r.PV] }) {
			gone[index] = true
		}
	}
	segment := vg.LVs[name].Segment
	switch {
	case strings.HasPrefix(segment, "raid10"):
		// Legs 0 and 1 hold the same, 2 and 3, and so on.
		bear = len(gone)
		for i := range gone {
			if gone[i^1] {
				bear = 0
			}
		}
	case strings.HasPrefix(segment, "raid1"):
		bear = legs - 1
	case strings.HasPrefix(segment, "raid6"):
		bear = 2
	case strings.HasPrefix(segment, "raid0"):
		bear = 0
	default:
		bear = 1
	}
	return len(gone), bear
}
