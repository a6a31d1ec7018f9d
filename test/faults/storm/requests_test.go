package storm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// mostBytes bounds what volumes grow to beyond their first size.
const mostBytes = 192 * mib

// claim draws what a new volume is to be.
func (c *caller) claim(random *rand.Rand) harness.Claim {
	claim := harness.Claim{Parameters: map[string]string{"datastore": pool}}
	if c.can.subdirectories && random.IntN(4) == 0 {
		claim.Parameters["format"], claim.Parameters["quota"] = "subdirectory", "none"
		claim.Bytes = int64(1+random.IntN(64)) * mib
		return claim
	}
	least := maps.Clone(rows.Filesystems())
	least["btrfs"] = 256 * mib // what is smaller is made as large
	kind := []string{"", "", "", "ext4", "ext4", "ext4", "xfs", "btrfs"}[random.IntN(8)]
	if kind == "" {
		claim.Block, claim.Bytes = true, int64(1+random.IntN(16))*mib
	} else {
		claim.Filesystem, claim.Bytes = kind, least[kind]+int64(random.IntN(3))*16*mib
	}
	if draw := random.IntN(4); draw < len(c.storage.Can().Provisioning) {
		claim.Parameters["provisioning"] = c.storage.Can().Provisioning[draw]
	}
	return claim
}

// copyOf draws a claim for a copy of an object: as large, or larger.
func (c *caller) copyOf(from *object, random *rand.Rand) harness.Claim {
	claim := from.kind
	claim.Parameters = map[string]string{"datastore": pool}
	maps.Copy(claim.Parameters, from.kind.Parameters)
	w, _ := from.worlds.certain()
	claim.Bytes = w.size + int64(random.IntN(3))*16*mib
	if from.snapshot != nil {
		claim.From = from.snapshot.Source()
	} else {
		claim.From = from.volume.Source()
	}
	return claim
}

func (c *caller) attach(o *object, random *rand.Rand) request {
	if random.IntN(8) == 0 {
		return c.attachAs(o, readOnly)
	}
	return c.attachAs(o, readWrite)
}

func (c *caller) attachAs(o *object, mode string) request {
	v := o.volume
	return request{move: func() move { return attach(mode) }, call: func(ctx context.Context) error {
		if mode == readOnly {
			return v.AttachReadOnly(ctx)
		}
		return v.Attach(ctx)
	}}
}

func (c *caller) stage(o *object) request {
	return request{move: func() move { return stage(o.volume.PublishContext != nil) }, call: o.volume.Stage}
}

func (c *caller) publish(o *object) request {
	return request{move: publish, call: o.volume.Publish}
}

func (c *caller) unpublish(o *object) request {
	return request{move: unpublish, call: o.volume.Unpublish}
}

func (c *caller) unstage(o *object) request {
	return request{move: unstage, call: o.volume.Unstage}
}

func (c *caller) detach(o *object) request {
	return request{move: detach, call: o.volume.Detach}
}

func (c *caller) remove(o *object) request {
	if o.snapshot != nil {
		return request{move: remove, call: o.snapshot.Delete}
	}
	return request{move: remove, call: o.volume.Delete}
}

func (c *caller) expand(o *object, random *rand.Rand) request {
	bytes := o.some().size + int64(random.IntN(4))*8*mib
	return c.expandTo(o, max(mib, min(bytes, o.kind.Bytes+mostBytes)))
}

func (c *caller) expandTo(o *object, bytes int64) request {
	v := o.volume
	return request{
		move: func() move { return expand(c.storage.Can().Round(bytes), c.storage.Can()) },
		call: func(ctx context.Context) error { _, err := v.Expand(ctx, bytes); return err },
		size: func() int64 { return v.Size },
	}
}

func (c *caller) nodeExpand(o *object) request {
	v, bytes := o.volume, o.some().size
	return request{
		move: func() move { return nodeExpand(v.Block || harness.GrowsMounted(v.Filesystem)) },
		call: func(ctx context.Context) error { return v.NodeExpand(ctx, bytes) },
	}
}

const onDelete = "onDelete"

// ends draws what becomes of a volume's bytes: most often nothing is said.
func (c *caller) ends(random *rand.Rand) string {
	all := []string{"delete", "retain", "archive", "", "", "", "", ""}
	return all[random.IntN(len(all))]
}

// modify draws mutable parameters.
func (c *caller) modify(o *object, random *rand.Rand) request {
	end := cmp.Or(c.ends(random), "delete")
	if !c.can.modify {
		return c.validate(o)
	}
	return c.modifyTo(o, end)
}

func (c *caller) modifyTo(o *object, end string) request {
	v := o.volume
	return request{move: func() move { return modify(end) }, call: func(ctx context.Context) error {
		_, err := v.Client.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{
			VolumeId: v.ID, MutableParameters: map[string]string{onDelete: end},
		})
		return err
	}}
}

func (c *caller) validate(o *object) request {
	v := o.volume
	return request{move: func() move { return look("validate") }, call: func(ctx context.Context) error {
		answer, err := v.Client.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: v.ID, VolumeCapabilities: []*csi.VolumeCapability{v.Capability()}, Parameters: v.Parameters,
		})
		if err == nil && answer.GetConfirmed() == nil {
			return fmt.Errorf("not confirmed: %s", answer.GetMessage())
		}
		return err
	}}
}

func (c *caller) get(o *object) request {
	v := o.volume
	if !c.can.get {
		return c.validate(o)
	}
	return request{move: func() move { return look("get") }, call: func(ctx context.Context) error {
		answer, err := v.Client.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: v.ID})
		if err == nil && answer.GetVolume().GetVolumeId() != v.ID {
			return fmt.Errorf("asked for %s, got %s", v.ID, answer.GetVolume().GetVolumeId())
		}
		return err
	}}
}

func (c *caller) stats(o *object) request {
	v := o.volume
	return request{move: stats, call: func(ctx context.Context) error {
		_, err := v.Client.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID, VolumePath: v.Target})
		return err
	}}
}

// anyRequest draws a call about a volume, whatever its state. It is made in its own time: it looks at the object then.
func (c *caller) anyRequest(o *object, random *rand.Rand) func() request {
	all := []func() request{
		func() request { return c.createVolume(o) },
		func() request { return c.remove(o) },
		func() request { return c.attach(o, random) },
		func() request { return c.detach(o) },
		func() request { return c.stage(o) },
		func() request { return c.unstage(o) },
		func() request { return c.publish(o) },
		func() request { return c.unpublish(o) },
		func() request { return c.expand(o, random) },
		func() request { return c.nodeExpand(o) },
		func() request { return c.validate(o) },
		func() request { return c.get(o) },
		func() request { return c.stats(o) },
		func() request { return c.modify(o, random) },
	}
	return all[random.IntN(len(all))]
}

// other asks for another volume of the same name.
func (c *caller) other(ctx context.Context, o *object, random *rand.Rand) error {
	if !o.present() {
		return c.do(ctx, o, c.validate(o))
	}
	twin := *o.volume
	switch random.IntN(3) {
	case 0: // smaller than it can be, whatever size it may have by now
		twin.Bytes, twin.Limit = 0, mib/2
	case 1:
		twin.Block = !twin.Block
	default:
		twin.Mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	}
	return c.do(ctx, o, request{move: createOther, call: twin.Create})
}

// glance lists, or looks at one volume. What may be there may be listed, what surely is must be.
func (c *caller) glance(ctx context.Context, o *object, random *rand.Rand) error {
	switch random.IntN(4) {
	case 0:
		return c.do(ctx, o, c.validate(o))
	case 1:
		return c.do(ctx, o, c.stats(o))
	case 2:
		return c.expect(ctx, "capacity", func(ctx context.Context) error {
			_, err := c.driver.Available(ctx, pool)
			return err
		})
	}
	return c.expect(ctx, "list", func(ctx context.Context) error {
		listed, err := c.driver.Listed(ctx)
		if err != nil {
			return err
		}
		for _, o := range c.volumes {
			_, is := listed[o.name]
			if (is && o.gone() && !o.open()) || (!is && o.present()) {
				return fmt.Errorf("%s is %v, listed is %v", o.name, o.worlds, slices.Sorted(maps.Keys(listed)))
			}
		}
		return nil
	})
}
