package disk

import (
	"context"
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// granularity of sizes in bytes: that of partitions.
const granularity = gpt.MiB

// Type returns the type for the list in cmd.
func Type() datastore.Type {
	return datastore.Type{Name: v1alpha1.TypeDisk, Capabilities: capabilities, New: open}
}

func capabilities(spec v1alpha1.DatastoreSpec) datastore.Capabilities {
	c := datastore.Capabilities{
		AccessTypes:  []v1alpha1.AccessType{v1alpha1.Filesystem, v1alpha1.Block},
		Formats:      []v1alpha1.VolumeFormat{v1alpha1.FormatDevice},
		Provisioning: []v1alpha1.Provisioning{v1alpha1.Thick},
		Filesystems:  []string{string(filesystem.Ext4), string(filesystem.XFS), string(filesystem.Btrfs)},
		Reach:        datastore.ReachHost,
		Expand:       true,
		Clone:        true,
		OnDelete:     []v1alpha1.DeletePolicy{v1alpha1.DeleteData, v1alpha1.RetainData, v1alpha1.ArchiveData},
		Wipe:         []v1alpha1.WipePolicy{v1alpha1.WipeNone, v1alpha1.WipeDiscard, v1alpha1.WipeZero},
		Granularity:  granularity,
		MinBytes:     minBytes,
	}
	if spec.Disk != nil && spec.Disk.Whole {
		c.Expand = false
	}
	return c
}

// minBytes returns the size of the smallest volume with that file system, or without one ("").
func minBytes(name string) int64 {
	t, err := filesystem.ParseType(name)
	if err != nil {
		return granularity // a raw volume; of what is no type Capabilities.Missing says so
	}
	return roundUp(filesystem.MinSize(t))
}

// roundUp rounds bytes up to the granularity.
func roundUp(bytes int64) int64 {
	if bytes > math.MaxInt64-granularity {
		return math.MaxInt64 / granularity * granularity // more than any disk holds
	}
	return (bytes + granularity - 1) / granularity * granularity
}

// open is the type's New.
func open(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	p, err := openPool(ctx, c)
	if err != nil {
		return nil, fault.Wrap(err, "open datastore", c.Datastore.Name)
	}
	return p, nil
}
