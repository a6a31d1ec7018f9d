package lvm

import (
	"context"
	"slices"
	"strconv"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// NewPool says what thin pool is made. Its new blocks are zeroed before they are used, and what its volumes discard is told to the devices.
type NewPool struct {
	Name  string
	Bytes int64
	// MetadataBytes and ChunkBytes are LVM's choice where they are 0.
	MetadataBytes, ChunkBytes int64
	Tags                      []string
}

// CreatePool makes a thin pool. A name that is taken is fault.Exists, too little room fault.Exhausted.
func (g *Group) CreatePool(ctx context.Context, n NewPool) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		if err := vg.checkNew(n.Name, n.Bytes); err != nil {
			return change{}, err
		}
		tags, err := tagArguments("--addtag", n.Tags)
		extents := vg.RoundUp(n.Bytes)
		args := []string{"lvcreate", "--yes", "--type", "thin-pool", "-n", n.Name, "-l", strconv.FormatInt(extents, 10), "-Zy", "--discards", "passdown"}
		if n.MetadataBytes > 0 {
			args = append(args, "--poolmetadatasize", bytesArgument(n.MetadataBytes))
		}
		if n.ChunkBytes > 0 {
			args = append(args, "--chunksize", bytesArgument(n.ChunkBytes))
		}
		return change{
			what: "create thin pool " + vg.Name + "/" + n.Name, args: slices.Concat(args, tags, []string{vg.Name}),
			rises: 3, failed: vg.noRoom(n.Name, extents),
		}, err
	})
}

// ExtendPool makes a thin pool's data and metadata at least that large; 0 leaves one as it is. It may be in use.
func (g *Group) ExtendPool(ctx context.Context, name string, data, metadata int64) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(name)
		if err != nil {
			return change{}, err
		}
		if lv.Kind != ThinPool {
			return change{}, fault.New(fault.Precondition, "%s/%s is no thin pool", vg.Name, name)
		}
		args, more, rises := []string{"lvextend", "--yes"}, int64(0), int64(0)
		if extents := vg.RoundUp(data); extents*vg.ExtentSize > lv.Bytes {
			args = append(args, "-l", strconv.FormatInt(extents, 10))
			more += extents - lv.Bytes/vg.ExtentSize
			rises++
		}
		if extents := vg.RoundUp(metadata); extents*vg.ExtentSize > lv.MetadataBytes {
			args = append(args, "--poolmetadatasize", bytesArgument(extents*vg.ExtentSize))
			more += extents - lv.MetadataBytes/vg.ExtentSize
			rises++
		}
		if more == 0 {
			return change{}, nil
		}
		return change{
			what: "extend thin pool " + vg.Name + "/" + name, args: append(args, vg.Name+"/"+name), rises: rises, failed: vg.noRoom("", more),
		}, nil
	})
}
