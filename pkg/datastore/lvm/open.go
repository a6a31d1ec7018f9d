package lvm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// groups are the volume groups that pools of this process lie in, by UUID.
type groups struct {
	mu    sync.Mutex
	known map[string]*shared
}

// shared is what all pools in one volume group have in common.
type shared struct {
	*lvm.Group
	space space

	mu    sync.Mutex
	paths map[string][]string // by datastore
}

func (g *groups) get(c datastore.Config, uuid string) *shared {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.known[uuid]; s != nil {
		return s
	}
	s := &shared{paths: map[string][]string{}}
	s.Group = lvm.NewGroup(lvm.Config{Run: c.Tools.Command, UUID: uuid, Devices: s.list})
	g.known[uuid] = s
	return s
}

// open is the type's New.
func (g *groups) open(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	p, err := g.openPool(ctx, c)
	if err != nil {
		return nil, fault.Wrap(err, "open datastore", c.Datastore.Name)
	}
	return p, nil
}

func (g *groups) openPool(ctx context.Context, c datastore.Config) (p *pool, err error) {
	spec := c.Datastore.Spec.LVM
	if spec == nil {
		return nil, fault.New(fault.Invalid, "spec.lvm is missing")
	}
	uuid, paths, err := locate(ctx, c)
	if err != nil {
		return nil, err
	}
	p = &pool{
		datastore: c.Datastore.Name, shared: g.get(c, uuid), tools: c.Tools, capabilities: capabilities(c.Datastore.Spec), spec: *spec,
		paths: spec.Devices, making: map[string]bool{}, attached: map[string]bool{}, reclaiming: make(chan struct{}, 1), defaults: c.Datastore.Spec.Volumes,
		capacity: c.Datastore.Spec.Capacity,
	}
	p.use(p.datastore, paths)
	if spec.ThinPool != nil {
		p.thinPool = spec.ThinPool.Name
	}
	if p.systemID, err = lvm.LocalSystemID(ctx, c.Tools.Command); err != nil {
		return nil, err
	}
	vg, err := p.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.mayUse(vg); err != nil {
		return nil, err
	}
	if vg, err = p.ensureThinPool(ctx, c, vg); err != nil {
		return nil, err
	}
	if err := c.Claims.Take(c.Datastore.Name, p.place(vg), nil); err != nil {
		return nil, fault.Wrap(err, "claim", p.where(vg))
	}
	if err := p.settle(ctx, c, vg); err != nil {
		c.Claims.Release(c.Datastore.Name)
		return nil, err
	}
	return p, nil
}

// place names what the pool lies in: a thin pool, or the free space of the group.
func (p *pool) place(vg *lvm.VolumeGroup) string {
	if p.thinPool != "" {
		return "thin pool " + vg.UUID + "/" + vg.LVs[p.thinPool].UUID
	}
	return "volume group " + vg.UUID
}

// where names it to people.
func (p *pool) where(vg *lvm.VolumeGroup) string {
	if p.thinPool != "" {
		return "thin pool " + vg.Name + "/" + p.thinPool
	}
	return "volume group " + vg.Name
}

// locate finds the volume group and the paths of its devices. One that is not there is made where that is allowed.
func locate(ctx context.Context, c datastore.Config) (uuid string, paths []string, err error) {
	spec := c.Datastore.Spec.LVM
	devices := resolve(spec.Devices)
	if len(spec.Devices) == 0 {
		if devices, err = candidates(); err != nil {
			return "", nil, err
		}
	}
	seen, err := lvm.Scan(ctx, c.Tools.Command, devices)
	if err != nil {
		return "", nil, err
	}
	uuid, err = choose(seen, c)
	if fault.Is(err, fault.NotFound) {
		if err := provision(ctx, c, devices, seen); err != nil {
			return "", nil, err
		}
		if seen, err = lvm.Scan(ctx, c.Tools.Command, devices); err != nil {
			return "", nil, err
		}
		uuid, err = choose(seen, c)
	}
	if err != nil {
		return "", nil, fault.As(unlessKnown(err), err)
	}
	if len(spec.Devices) == 0 {
		return uuid, devicesOf(seen, uuid), nil
	}
	var named []string // the paths that stand for its devices; of those that are missing nobody knows
	for _, path := range spec.Devices {
		at := resolve([]string{path})
		if len(at) == 0 || slices.ContainsFunc(seen, func(s lvm.Seen) bool { return s.Device == at[0] && s.GroupUUID == uuid }) {
			named = append(named, path)
		}
	}
	return uuid, named, nil
}

func unlessKnown(err error) fault.Kind {
	if fault.Is(err, fault.NotFound) {
		return fault.Unavailable
	}
	return fault.KindOf(err)
}

func devicesOf(seen []lvm.Seen, uuid string) []string {
	var out []string
	for _, s := range seen {
		if s.GroupUUID == uuid {
			out = append(out, s.Device)
		}
	}
	return out
}

// choose returns the UUID of the datastore's volume group: the one that bears its marker, else the one of that name. None is
// fault.NotFound, several are fault.Precondition.
func choose(seen []lvm.Seen, c datastore.Config) (string, error) {
	name := c.Datastore.Spec.LVM.VolumeGroup
	var named []string
	for _, s := range seen {
		if s.GroupUUID == "" {
			continue
		}
		m, err := readMarker(s.GroupTags, s.Group)
		if err == nil && c.PoolUUID != "" && m.Pool == c.PoolUUID {
			return s.GroupUUID, nil
		}
		if s.Group == name && !slices.Contains(named, s.GroupUUID) {
			named = append(named, s.GroupUUID)
		}
	}
	switch len(named) {
	case 0:
		return "", fault.New(fault.NotFound, "no volume group %s was found on %s; are its disks there? Nothing was changed", name, someDevices(c, seen))
	case 1:
		return named[0], nil
	}
	return "", fault.New(fault.Precondition, "%d volume groups are called %s (UUIDs %s); name the devices of the right one in spec.lvm.devices",
		len(named), name, strings.Join(named, ", "))
}

// someDevices says where was looked, and what is there.
func someDevices(c datastore.Config, seen []lvm.Seen) string {
	if len(c.Datastore.Spec.LVM.Devices) == 0 {
		return "this host's disks"
	}
	var out []string
	for _, path := range c.Datastore.Spec.LVM.Devices {
		what := "not there"
		if at := resolve([]string{path}); len(at) > 0 {
			what = "no physical volume"
			if i := slices.IndexFunc(seen, func(s lvm.Seen) bool { return s.Device == at[0] }); i >= 0 {
				what = "a physical volume of no group"
				if seen[i].Group != "" {
					what = "of volume group " + seen[i].Group
				}
			}
		}
		out = append(out, fmt.Sprintf("%s (%s)", path, what))
	}
	return strings.Join(out, ", ")
}

// mayUse refuses groups that other hosts may change too: without locks that keep them apart, one would destroy the other's metadata.
func (p *pool) mayUse(vg *lvm.VolumeGroup) error {
	why := ""
	switch {
	case vg.Clustered || vg.LockType != "" && vg.LockType != "none":
		why = fmt.Sprintf("it is shared between hosts (lock type %q)", vg.LockType)
	case vg.SystemID != "" && vg.SystemID != p.systemID:
		why = fmt.Sprintf("it belongs to the host of system ID %q, this one's is %q (lvmsystemid(7))", vg.SystemID, p.systemID)
	case vg.Exported:
		why = "it is exported; import it with vgimport"
	case vg.ReadOnly:
		why = "it is read-only; allow changes with vgchange -prw"
	default:
		return nil
	}
	return fault.New(fault.Precondition, "volume group %s can't be a datastore of this host alone: %s; nothing was changed", vg.Name, why)
}

// settle finds the pool's marker and judges it, or makes it where that is allowed; then it puts right what a process that died left.
func (p *pool) settle(ctx context.Context, c datastore.Config, vg *lvm.VolumeGroup) error {
	where := p.where(vg)
	m, err := readMarker(p.tagsOf(vg), where)
	switch {
	case fault.Is(err, fault.NotFound) && c.Inspect:
		return fault.New(fault.NotFound, "%s bears no marker: it was never a pool", where)
	case fault.Is(err, fault.NotFound) && c.PoolUUID != "":
		return fault.New(fault.Unavailable, "%s bears no marker (tag %s...) of pool %s; were its disks exchanged, or the tag removed? Nothing was changed",
			where, markerTag, c.PoolUUID)
	case fault.Is(err, fault.NotFound):
		m = newMarker(c)
		err = p.tagPool(ctx, []string{m.tag()}, nil)
	}
	if err != nil {
		return err
	}
	if err := m.judge(c, where); err != nil {
		return err
	}
	if c.Inspect {
		p.marker = m
		return nil
	}
	if m.Machine != c.MachineID {
		old := having(p.tagsOf(vg), markerTag)
		m.Machine, m.Host = c.MachineID, c.Host
		if err := p.tagPool(ctx, []string{m.tag()}, old); err != nil {
			return err
		}
	}
	p.marker = m
	return p.resume(ctx, vg)
}

// resume lets go on what a call of lvm that died has suspended, and activates the thin pool, which is measured all the time.
func (p *pool) resume(ctx context.Context, vg *lvm.VolumeGroup) error {
	for _, lv := range vg.LVs {
		if !p.mine(lv) || !lv.Active {
			continue
		}
		if d, err := lvm.FindDevice(vg.UUID, lv.UUID); err == nil && d.Suspended {
			if err := p.Refresh(ctx, lv.Name); err != nil {
				return err
			}
		}
	}
	if p.thinPool == "" || vg.LVs[p.thinPool].Active {
		return nil
	}
	return p.Activate(ctx, p.thinPool)
}

// tagsOf are the tags of what the pool lies in.
func (p *pool) tagsOf(vg *lvm.VolumeGroup) []string {
	if p.thinPool != "" {
		return vg.LVs[p.thinPool].Tags
	}
	return vg.Tags
}

func (p *pool) tagPool(ctx context.Context, add, remove []string) error {
	if p.thinPool != "" {
		return p.Retag(ctx, lvm.Retag{Name: p.thinPool, Add: add, Remove: remove})
	}
	return p.TagGroup(ctx, add, remove)
}

// provisioned tells whether the driver may make what is missing.
func provisioned(c datastore.Config) bool {
	return c.Datastore.Spec.LVM.Provision == v1alpha1.ProvisionIfEmpty && c.PoolUUID == "" && !c.Inspect
}
