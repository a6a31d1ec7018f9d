package lvm

import (
	"context"
	"errors"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// Config is what a Group needs.
type Config struct {
	Run *command.Runner
	// UUID of the volume group.
	UUID string
	// Devices returns the paths of the devices that may be looked at, as they are now: the group's physical volumes and nothing else.
	// A path must be the device's own, no link.
	Devices func(context.Context) ([]string, error)
}

// Group is a volume group that exists. All methods may be called concurrently; those that call lvm wait for each other,
// and stop waiting when their context ends.
type Group struct {
	program
	uuid    string
	devices func(context.Context) ([]string, error)
	// turn is taken by who calls lvm.
	turn chan struct{}
	// known is the last report, carried on by the group's own changes; nil where it must be asked for. version is that of the metadata it is
	// of, and epoch counts how often that was not what the group's own changes made of it. Whoever has the turn may use them.
	known   *VolumeGroup
	version Version
	epoch   int64
}

// NewGroup returns a group. It is not looked at yet.
func NewGroup(c Config) *Group {
	return &Group{program: program{c.Run}, uuid: c.UUID, devices: c.Devices, turn: make(chan struct{}, 1)}
}

// UUID of the group.
func (g *Group) UUID() string { return g.uuid }

// enter takes the turn.
func (g *Group) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.turn <- struct{}{}:
		return func() { <-g.turn }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "other calls on the volume group took too long: %w", ctx.Err())
	}
}

// View returns the group as its metadata says. What LVM asks the kernel (what is active, percentages, health) may be older.
func (g *Group) View(ctx context.Context) (*VolumeGroup, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return g.view(ctx)
}

// Fresh returns the group as it is now.
func (g *Group) Fresh(ctx context.Context) (*VolumeGroup, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	g.known = nil
	return g.view(ctx)
}

// Volume returns one volume with its UUID. One that is not there is fault.NotFound.
func (g *Group) Volume(ctx context.Context, name string) (LogicalVolume, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return LogicalVolume{}, err
	}
	defer leave()
	vg, err := g.view(ctx)
	if err == nil && vg.LVs[name].Name != "" && vg.LVs[name].UUID == "" {
		g.known = nil
		vg, err = g.view(ctx)
	}
	if err != nil {
		return LogicalVolume{}, err
	}
	return vg.find(name)
}

// find returns a volume; one that is not there is fault.NotFound.
func (vg *VolumeGroup) find(name string) (LogicalVolume, error) {
	lv, ok := vg.LVs[name]
	if !ok {
		return lv, fault.New(fault.NotFound, "volume group %s has no logical volume %s", vg.Name, name)
	}
	return lv, nil
}

// view returns what is known, where it is still so. The caller has the turn.
func (g *Group) view(ctx context.Context) (*VolumeGroup, error) {
	devices, err := g.devices(ctx)
	if err != nil {
		return nil, err
	}
	// Looked at before the report: what is changed in between is seen by the next look.
	version, unread := Stamp(ctx, g.run, devices)
	if g.known != nil && unread == nil && version == g.version {
		return g.known, nil
	}
	g.known = nil
	out, err := g.do(ctx, call{devices: devices, args: reportArguments()})
	if err != nil && len(out) == 0 {
		return nil, fault.Wrap(fault.As(fault.Unavailable, err), "look at volume group", g.uuid)
	}
	// A group that lacks a device is reported, and is a failure all the same.
	vg, parsed := parseGroup(out, g.uuid)
	if parsed != nil {
		return nil, fault.Wrap(fault.As(fault.Unavailable, errors.Join(parsed, err)), "look at volume group", g.uuid)
	}
	if unread != nil || version.Seqno != vg.Seqno {
		version = Version{Seqno: vg.Seqno}
	}
	if version != g.version {
		g.epoch++
	}
	vg.Epoch = g.epoch
	g.known, g.version = vg, version
	return vg, nil
}

// change is a change of the group.
type change struct {
	what string
	args []string
	// discard has the devices below told of extents that are given back.
	discard bool
	// rises is by how much the sequence number rises where nobody else changes anything, as seen with LVM 2.03.16: another number is taken
	// for somebody else's hand. apply makes the group's next state. Without apply the next look is a report.
	rises int64
	apply func(*VolumeGroup)
	// failed says what a refusal of lvm means, by the state of the group after it; nil where it means nothing in particular.
	failed func(*VolumeGroup) error
}

// alter makes a change that plan derives from the group's present state.
func (g *Group) alter(ctx context.Context, plan func(*VolumeGroup) (change, error)) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	vg, err := g.view(ctx)
	if err != nil {
		return err
	}
	c, err := plan(vg)
	if err != nil || len(c.args) == 0 {
		return err
	}
	devices, err := g.devices(ctx)
	if err != nil {
		return err
	}
	g.known = nil // whatever comes of it
	_, err = g.do(ctx, call{devices: devices, args: c.args, changes: c.what, discard: c.discard})
	if err != nil {
		return g.explain(ctx, c, err)
	}
	version, err := Stamp(ctx, g.run, devices)
	if err != nil || version.Seqno != vg.Seqno+c.rises {
		g.version = Version{} // somebody else was there, for all that is known
		return nil
	}
	g.version = version
	if c.apply != nil {
		next := vg.clone()
		next.Seqno = version.Seqno
		c.apply(next)
		g.known = next
	}
	return nil
}

// explain tells what the failure of a change means.
func (g *Group) explain(ctx context.Context, c change, err error) error {
	err = fault.Wrap(err, "", c.what)
	if c.failed == nil || !failedItself(err) {
		return err
	}
	now, seen := g.view(ctx)
	if seen != nil {
		return errors.Join(err, seen)
	}
	if why := c.failed(now); why != nil {
		return fault.New(fault.KindOf(why), "%w: %w", why, err)
	}
	return err
}

// put replaces or adds a volume in a state that is being made.
func (vg *VolumeGroup) put(lv LogicalVolume) { vg.LVs[lv.Name] = lv }

// take takes extents out of the free ones for a volume. Which ones LVM took is only known where they were named.
func (vg *VolumeGroup) take(name string, extents int64, named []Range) {
	vg.FreeExtents -= extents
	if Count(named) != extents {
		vg.Layout = false
		return
	}
	vg.Free = Subtract(vg.Free, named)
	vg.occupied[name] = named
}

// retagged returns tags without some and with others.
func retagged(tags, add, remove []string) []string {
	out := slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(remove, t) })
	for _, t := range add {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}
