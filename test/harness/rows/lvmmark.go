package rows

import (
	"slices"
	"strings"
)

// The tags that a logical volume of a driver's bears: pkg/datastore/lvm says what they mean.
const (
	markTag    = "dcsi.mark."
	makingTag  = "dcsi.making"
	remainsTag = "dcsi.remainder="
	keptTag    = "dcsi.kept="
)

func (v volume) tagged(prefix string) bool {
	return slices.ContainsFunc(v.tags, func(tag string) bool { return strings.HasPrefix(tag, prefix) })
}

func (v volume) marked() bool { return v.tagged("dcsi.") }

// isVolume tells a volume, retained ones among them, from what is being made or removed, and from snapshots.
func (v volume) isVolume() bool {
	return v.tagged(markTag) && !v.tagged(makingTag) && !v.tagged(remainsTag) && !v.isArchived() && !v.isSnapshot()
}

func (v volume) isArchived() bool {
	return slices.ContainsFunc(v.tags, func(tag string) bool {
		return strings.HasPrefix(tag, keptTag) && strings.Contains(strings.ToLower(tag), "archive")
	})
}

// isSnapshot reads it in the mark, a list of fields.
func (v volume) isSnapshot() bool {
	return slices.ContainsFunc(v.tags, func(tag string) bool {
		return strings.HasPrefix(tag, markTag) && strings.Contains(tag, "&s=1&")
	})
}

// markArgs are arguments of lvcreate that make what is taken for a driver's volume.
func markArgs() []string { return []string{"--addtag", markTag + "1.1=i=by-hand"} }
