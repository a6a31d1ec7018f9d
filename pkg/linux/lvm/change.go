package lvm

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Removal says how volumes are removed.
type Removal struct {
	// Discard tells the devices below which extents are of no use any more.
	Discard bool
}

// Remove removes volumes, and gives their extents or their pool's blocks back. What is not there is success. One that is open, and one that
// has copy-on-write snapshots, which would go with it, is fault.Precondition, and none is removed.
func (g *Group) Remove(ctx context.Context, r Removal, names ...string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, there := vg.LVs[n]; return !there })
		if len(names) == 0 {
			return change{}, nil
		}
		c := change{args: []string{"lvremove", "--yes"}, discard: r.Discard, failed: opened(g.uuid, names)}
		plain := vg.Layout // what is given back is known
		for _, n := range names {
			if snapshots := vg.SnapshotsOf(n); len(snapshots) > 0 {
				return change{}, fault.New(fault.Precondition, "%s/%s has snapshots that would go with it: %s; remove them first", vg.Name, n, strings.Join(snapshots, ", "))
			}
			lv := vg.LVs[n]
			plain = plain && (lv.Kind == Thin || lv.Kind == Linear || lv.Kind == Striped)
			c.rises++
			if lv.Kind == Thin || lv.Kind == Snapshot {
				c.rises++ // the pool is told, or the origin is without it
			}
			c.args = append(c.args, vg.Name+"/"+n)
		}
		c.what = "remove logical volume " + vg.Name + "/" + strings.Join(names, ", ")
		if plain {
			c.apply = func(next *VolumeGroup) {
				for _, n := range names {
					next.Free = Union(next.Free, next.occupied[n])
					next.FreeExtents += Count(next.occupied[n])
					delete(next.LVs, n)
					delete(next.occupied, n)
					next.forgetOrigin(n)
				}
			}
		}
		return c, nil
	})
}

// forgetOrigin has thin volumes forget what they were made of: it is gone.
func (vg *VolumeGroup) forgetOrigin(name string) {
	for _, lv := range vg.LVs {
		if lv.Origin == name {
			lv.Origin = ""
			vg.put(lv)
		}
	}
}

// SnapshotsOf names the copy-on-write snapshots of a volume, sorted.
func (vg *VolumeGroup) SnapshotsOf(name string) []string {
	var out []string
	for _, lv := range vg.LVs {
		if lv.Kind == Snapshot && lv.Origin == name {
			out = append(out, lv.Name)
		}
	}
	slices.Sort(out)
	return out
}

// opened says that lvm refused because somebody uses a volume.
func opened(uuid string, names []string) func(*VolumeGroup) error {
	return func(now *VolumeGroup) error {
		for _, n := range names {
			lv, ok := now.LVs[n]
			if !ok {
				continue
			}
			if d, err := FindDevice(uuid, lv.UUID); err == nil && d.Opens > 0 {
				return fault.New(fault.Precondition, "%s/%s is in use: %s is open %d times", now.Name, n, d.Path, d.Opens)
			}
		}
		return nil
	}
}

// Retag is a change of a volume's tags and, in the same call, of what it is called and whether it is active.
type Retag struct {
	Name        string
	Add, Remove []string
	// Deactivate takes it out of use, or fails where somebody uses it; the tags are changed first.
	Deactivate bool
}

// Retag changes a volume's tags, all at once. A volume that is not there is fault.NotFound.
func (g *Group) Retag(ctx context.Context, r Retag) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(r.Name)
		if err != nil {
			return change{}, err
		}
		remove := slices.DeleteFunc(slices.Clone(r.Remove), func(t string) bool { return !lv.HasTag(t) })
		add := slices.DeleteFunc(slices.Clone(r.Add), lv.HasTag)
		if len(add)+len(remove) == 0 {
			return change{}, nil
		}
		addArgs, err := tagArguments("--addtag", add)
		if err != nil {
			return change{}, err
		}
		removeArgs, err := tagArguments("--deltag", remove)
		if err != nil {
			return change{}, err
		}
		c := change{
			what:  "change the tags of logical volume " + vg.Name + "/" + r.Name,
			args:  slices.Concat([]string{"lvchange"}, removeArgs, addArgs),
			rises: 1, failed: opened(g.uuid, []string{r.Name}),
			apply: func(next *VolumeGroup) {
				lv.Tags = retagged(lv.Tags, add, remove)
				lv.Active = lv.Active && !r.Deactivate
				next.put(lv)
			},
		}
		if r.Deactivate {
			c.args = append(c.args, activation(false)...)
		}
		c.args = append(c.args, vg.Name+"/"+r.Name)
		return c, nil
	})
}

// Rename gives a volume another name. A name that is taken is fault.Exists, a volume that is not there fault.NotFound.
func (g *Group) Rename(ctx context.Context, from, to string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(from)
		if err != nil {
			return change{}, err
		}
		if err := vg.checkNew(to, lv.Bytes); err != nil {
			return change{}, err
		}
		return change{
			what: "rename logical volume " + vg.Name + "/" + from + " to " + to,
			args: []string{"lvrename", vg.Name, from, to}, rises: 1,
		}, nil
	})
}

// Activate makes a volume usable, also one that LVM would skip; a thin one with its pool. It says nothing where it is already.
func (g *Group) Activate(ctx context.Context, name string) error {
	return g.activate(ctx, name, true)
}

// Deactivate undoes Activate. One that is open is fault.Precondition.
func (g *Group) Deactivate(ctx context.Context, name string) error {
	return g.activate(ctx, name, false)
}

func (g *Group) activate(ctx context.Context, name string, active bool) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		if _, err := vg.find(name); err != nil {
			return change{}, err
		}
		what := "deactivate"
		if active {
			what = "activate"
		}
		args := append([]string{"lvchange"}, activation(active)...)
		if active { // a raid that lacks a leg can be used; others without all of their devices can't
			args = append(args, "--activationmode", "degraded")
		}
		return change{
			what: what + " logical volume " + vg.Name + "/" + name, args: append(args, vg.Name+"/"+name),
			failed: opened(g.uuid, []string{name}),
			apply: func(next *VolumeGroup) {
				lv := next.LVs[name]
				lv.Active = active
				next.put(lv)
			},
		}, nil
	})
}

// Refresh gives the kernel a volume's tables anew, and lets go on what a call that died has left suspended.
func (g *Group) Refresh(ctx context.Context, name string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		if _, err := vg.find(name); err != nil {
			return change{}, err
		}
		return change{what: "refresh logical volume " + vg.Name + "/" + name, args: []string{"lvchange", "--refresh", vg.Name + "/" + name}}, nil
	})
}

// Extend makes a volume at least that large, and its device where it is active; one that is, is left alone. On is as in NewVolume, for what
// is added. Too little room is fault.Exhausted.
func (g *Group) Extend(ctx context.Context, name string, bytes int64, on []Range) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(name)
		if err != nil {
			return change{}, err
		}
		extents := vg.RoundUp(bytes)
		if lv.Bytes >= extents*vg.ExtentSize {
			return change{}, nil
		}
		where, ok := vg.arguments(on)
		if !ok {
			return change{}, fault.New(fault.Unavailable, "a device of volume group %s is missing", vg.Name)
		}
		more := extents - lv.Bytes/vg.ExtentSize
		if lv.Kind == Thin {
			more = 0
		}
		return change{
			what:  "extend logical volume " + vg.Name + "/" + name,
			args:  slices.Concat([]string{"lvextend", "--yes", "-l", strconv.FormatInt(extents, 10), vg.Name + "/" + name}, where),
			rises: 1,
			failed: func(now *VolumeGroup) error {
				if snapshots := now.SnapshotsOf(name); len(snapshots) > 0 {
					return fault.New(fault.Precondition, "%s/%s has copy-on-write snapshots, and grows only while it is not in use: %s", now.Name, name, strings.Join(snapshots, ", "))
				}
				return vg.noRoom("", more)(now)
			},
		}, nil
	})
}

// Split makes a copy-on-write snapshot's store a volume of its own, with the tags and the name that it has: what is in it is no picture of anything.
func (g *Group) Split(ctx context.Context, name string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(name)
		if err != nil || lv.Kind != Snapshot {
			return change{}, err
		}
		return change{
			what: "split snapshot " + vg.Name + "/" + name + " from its origin", args: []string{"lvconvert", "--yes", "--splitsnapshot", vg.Name + "/" + name}, rises: 1,
			failed: opened(g.uuid, []string{name}),
		}, nil
	})
}

// AllowWrites makes a volume writable for good.
func (g *Group) AllowWrites(ctx context.Context, name string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		lv, err := vg.find(name)
		if err != nil || !lv.ReadOnly {
			return change{}, err
		}
		return change{what: "allow writes to logical volume " + vg.Name + "/" + name, args: []string{"lvchange", "-prw", vg.Name + "/" + name}, rises: 1}, nil
	})
}

// TagGroup changes the group's own tags, all at once.
func (g *Group) TagGroup(ctx context.Context, add, remove []string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		remove := slices.DeleteFunc(slices.Clone(remove), func(t string) bool { return !vg.HasTag(t) })
		add := slices.DeleteFunc(slices.Clone(add), vg.HasTag)
		if len(add)+len(remove) == 0 {
			return change{}, nil
		}
		addArgs, err := tagArguments("--addtag", add)
		if err != nil {
			return change{}, err
		}
		removeArgs, err := tagArguments("--deltag", remove)
		return change{
			what: "change the tags of volume group " + vg.Name, args: slices.Concat([]string{"vgchange"}, removeArgs, addArgs, []string{vg.Name}), rises: 1,
			apply: func(next *VolumeGroup) { next.Tags = retagged(next.Tags, add, remove) },
		}, err
	})
}
