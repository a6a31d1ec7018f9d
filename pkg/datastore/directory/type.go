package directory

import (
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

const (
	// granularity of sizes in bytes: what every file system and sector size agrees with.
	granularity = 4096
	// minBlockBytes is the smallest raw volume.
	minBlockBytes = 1 << 20
)

// Type returns the type for the list in cmd.
func Type() datastore.Type {
	return datastore.Type{Name: v1alpha1.TypeDirectory, Capabilities: Capabilities, New: open}
}

// Capabilities of pools that are directories.
func Capabilities(v1alpha1.DatastoreSpec) datastore.Capabilities {
	return datastore.Capabilities{
		AccessTypes:  []v1alpha1.AccessType{v1alpha1.Filesystem, v1alpha1.Block},
		Formats:      []v1alpha1.VolumeFormat{v1alpha1.FormatImage, v1alpha1.FormatSubdirectory},
		Provisioning: []v1alpha1.Provisioning{v1alpha1.Thin, v1alpha1.Thick},
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
}

// minBytes returns the size of the smallest volume with that file system, or without one ("").
func minBytes(name string) int64 {
	if name == "" {
		return minBlockBytes
	}
	t, err := filesystem.ParseType(name)
	if err != nil {
		return minBlockBytes // Capabilities.Missing refuses it by its name
	}
	return roundUp(filesystem.MinSize(t))
}

// roundUp rounds bytes up to the granularity.
func roundUp(bytes int64) int64 {
	if bytes > math.MaxInt64-granularity {
		return math.MaxInt64 / granularity * granularity // more than any file system holds
	}
	return (bytes + granularity - 1) / granularity * granularity
}
