package lvm

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// provision makes the volume group where the administrator allowed it and every device is blank.
func provision(ctx context.Context, c datastore.Config, devices []string, seen []lvm.Seen) error {
	spec := c.Datastore.Spec.LVM
	if !provisioned(c) {
		_, err := choose(seen, c)
		return fault.As(fault.Unavailable, err)
	}
	for _, path := range spec.Devices {
		if len(resolve([]string{path})) == 0 {
			return fault.New(fault.Unavailable, "device %s is not there, so volume group %s was not made", path, spec.VolumeGroup)
		}
		if err := blank(ctx, c.Tools.Command, path); err != nil {
			return fault.Wrap(err, "make volume group "+spec.VolumeGroup+" on", path)
		}
	}
	var tags []string
	if spec.ThinPool == nil {
		tags = []string{newMarker(c).tag()}
	}
	return lvm.MakeGroup(ctx, c.Tools.Command, spec.VolumeGroup, devices, tags)
}

// blank refuses a device that bears anything, is in use, or can't be read.
func blank(ctx context.Context, run *command.Runner, path string) error {
	held, err := blockdev.Held(path)
	if err != nil {
		return err
	}
	if held {
		return fault.New(fault.Precondition, "it is in use; nothing was changed")
	}
	found, err := filesystem.Probe(ctx, run, path)
	if err != nil {
		return err
	}
	if found.Type != "" {
		return fault.New(fault.Precondition, "it is not blank: it bears %s; nothing was changed. If nobody needs that, remove it with wipefs", found)
	}
	empty, err := filesystem.Blank(ctx, run, path)
	if err == nil && !empty {
		err = fault.New(fault.Precondition, "it is not blank: it doesn't read as zeroes; nothing was changed. If nobody needs what is there, zero it")
	}
	return err
}

// The room that a thin pool leaves in its group where no size is said: for its metadata, the spare that it is repaired with, and growth.
const leftPercent = 5

// ensureThinPool makes sure that the pool's thin pool is there and is one, and makes it where that is allowed.
func (p *pool) ensureThinPool(ctx context.Context, c datastore.Config, vg *lvm.VolumeGroup) (*lvm.VolumeGroup, error) {
	if p.thinPool == "" {
		return vg, nil
	}
	lv, there := vg.LVs[p.thinPool]
	if !there {
		if !provisioned(c) {
			return nil, fault.New(fault.Unavailable, "volume group %s has no thin pool %s; make it, or set spec.lvm.provision to IfEmpty", vg.Name, p.thinPool)
		}
		if err := p.makeThinPool(ctx, c, vg); err != nil {
			return nil, err
		}
		var err error
		if vg, err = p.Fresh(ctx); err != nil {
			return nil, err
		}
		lv = vg.LVs[p.thinPool]
	}
	if lv.Kind != lvm.ThinPool {
		return nil, fault.New(fault.Precondition, "logical volume %s/%s is no thin pool (%s); nothing was changed", vg.Name, p.thinPool, lv.Segment)
	}
	if !lv.Zeroing && p.defaults.Wipe != v1alpha1.WipeNone {
		return nil, fault.New(fault.Precondition, "thin pool %s/%s doesn't zero new blocks, so that a volume may show what another held; "+
			"switch it on with `lvchange --zero y %s/%s`, or set spec.volumes.wipe to None", vg.Name, p.thinPool, vg.Name, p.thinPool)
	}
	return vg, nil
}

func (p *pool) makeThinPool(ctx context.Context, c datastore.Config, vg *lvm.VolumeGroup) error {
	spec := p.spec.ThinPool
	n := lvm.NewPool{Name: p.thinPool, Tags: []string{newMarker(c).tag()}}
	if q := spec.MetadataSize; q != nil {
		n.MetadataBytes = q.Value()
	}
	if q := spec.ChunkSize; q != nil {
		n.ChunkBytes = q.Value()
	}
	size, said, err := v1alpha1.ShareOrBytes(spec.Size).Of(vg.Extents * vg.ExtentSize)
	if err != nil {
		return fault.As(fault.Invalid, err)
	}
	if !said {
		// The metadata takes its space twice.
		size = vg.FreeBytes() - v1alpha1.Percent(vg.FreeBytes(), leftPercent) - 2*n.MetadataBytes
	}
	n.Bytes = size / vg.ExtentSize * vg.ExtentSize
	if n.Bytes <= 0 {
		return fault.New(fault.Exhausted, "volume group %s has %s free: too little for thin pool %s", vg.Name, humanBytes(vg.FreeBytes()), p.thinPool)
	}
	return p.CreatePool(ctx, n)
}
