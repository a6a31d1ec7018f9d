package lvm

import (
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// granularity of sizes in bytes: LVM's default extent. In a group of larger extents a volume is a little larger than asked for.
const granularity = 4 << 20

// Type returns the type for the list in cmd. Its pools in one volume group take turns and share what they know of it.
func Type() datastore.Type {
	all := &groups{known: map[string]*shared{}}
	return datastore.Type{Name: v1alpha1.TypeLVM, Capabilities: capabilities, New: all.open}
}

func capabilities(spec v1alpha1.DatastoreSpec) datastore.Capabilities {
	c := datastore.Capabilities{
		AccessTypes:  []v1alpha1.AccessType{v1alpha1.Filesystem, v1alpha1.Block},
		Formats:      []v1alpha1.VolumeFormat{v1alpha1.FormatDevice},
		Provisioning: []v1alpha1.Provisioning{v1alpha1.Thick},
		Filesystems:  []string{string(filesystem.Ext4), string(filesystem.XFS), string(filesystem.Btrfs)},
		Reach:        datastore.ReachHost,
		Expand:       true,
		Snapshot:     true,
		Clone:        true,
		OnDelete:     []v1alpha1.DeletePolicy{v1alpha1.DeleteData, v1alpha1.RetainData, v1alpha1.ArchiveData},
		Wipe:         []v1alpha1.WipePolicy{v1alpha1.WipeNone, v1alpha1.WipeDiscard, v1alpha1.WipeZero},
		Granularity:  granularity,
		MinBytes:     minBytes,
	}
	if thin(spec) {
		c.Provisioning = []v1alpha1.Provisioning{v1alpha1.Thin}
		// A pool zeroes each block before a volume gets it. Writing zeroes over a volume would only give it blocks.
		c.Wipe = []v1alpha1.WipePolicy{v1alpha1.WipeNone, v1alpha1.WipeDiscard}
		return c
	}
	c.Redundancy = []v1alpha1.Redundancy{v1alpha1.Mirror, v1alpha1.Parity, v1alpha1.DoubleParity}
	c.Stripes, c.SnapshotSize = true, true
	return c
}

func thin(spec v1alpha1.DatastoreSpec) bool { return spec.LVM != nil && spec.LVM.ThinPool != nil }

// minBytes returns the size of the smallest volume with that file system, or without one ("").
func minBytes(name string) int64 {
	t, err := filesystem.ParseType(name)
	if err != nil {
		return granularity // Capabilities.Missing refuses it by its name
	}
	return roundUp(max(filesystem.MinSize(t), granularity))
}

func roundUp(bytes int64) int64 {
	if bytes > math.MaxInt64-granularity {
		return math.MaxInt64 / granularity * granularity
	}
	return (bytes + granularity - 1) / granularity * granularity
}
