package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// pool is a set of disks that were opened as a datastore's. It keeps none open between calls.
type pool struct {
	name         string
	config       datastore.Config
	devices      []string
	tools        datastore.Tools
	capabilities datastore.Capabilities

	// scanning and reclaiming hold the call that runs.
	scanning, reclaiming chan struct{}

	mu      sync.Mutex
	marker  marker // whose the pool is; what is a disk's own in it is not set
	members map[gpt.GUID]*member
	refused []candidate     // what can't be used of the devices, since the last scan
	busy    map[string]bool // keys of volumes that a call makes
	// defaultWipe is the datastore's for volumes that say nothing.
	defaultWipe v1alpha1.WipePolicy
}

var _ datastore.Pool = (*pool)(nil)

// openPool looks at the disks, takes blank ones in, and opens the pool that lies on them.
func openPool(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	spec := c.Datastore.Spec.Disk
	if spec == nil {
		return nil, fault.New(fault.Invalid, "spec.disk is missing")
	}
	if spec.Whole {
		return openWhole(ctx, c)
	}
	p := &pool{
		name: c.Datastore.Name, config: c, devices: spec.Devices, tools: c.Tools, capabilities: capabilities(c.Datastore.Spec),
		scanning: make(chan struct{}, 1), reclaiming: make(chan struct{}, 1),
		members: map[gpt.GUID]*member{}, busy: map[string]bool{}, defaultWipe: c.Datastore.Spec.Volumes.Wipe,
	}
	if err := p.scan(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 {
		return nil, p.unopened()
	}
	if err := c.Claims.Take(p.name, "disks of pool "+p.marker.Pool, nil); err != nil {
		return nil, err
	}
	return p, nil
}

// unopened is the error of a pool of which no disk can be used. The pool's mu is held.
func (p *pool) unopened() error {
	var errs []error
	blank := 0
	for _, c := range p.refused {
		if c.blank && fault.Is(c.err, fault.NotFound) {
			blank++
			continue
		}
		errs = append(errs, c.err)
	}
	why := errors.Join(errs...)
	kind := fault.Unavailable
	if len(errs) > 0 && blank == 0 {
		kind = fault.KindOf(errs[0])
	}
	switch {
	case p.config.PoolUUID != "":
		return fault.New(fault.Unavailable, "none of its %d disks bears pool %s; are its disks pulled? Bring one back, and it is used again; nothing was changed: %w",
			len(p.devices), p.config.PoolUUID, why)
	case p.config.Inspect && blank > 0:
		return fault.New(fault.NotFound, "its disks bear no marker: they were never a pool: %w", why)
	}
	return fault.New(kind, "none of its %d disks can be used: %w", len(p.devices), why)
}

// Update takes up what an administrator changed of a datastore that keeps its place.
func (p *pool) Update(d *v1alpha1.Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defaultWipe = d.Spec.Volumes.Wipe
}

// Maintain looks at the disks again: one that came back is used, and a blank one that was added taken in.
func (p *pool) Maintain(ctx context.Context) error {
	return fault.Wrap(p.scan(ctx), "look at the disks of datastore", p.name)
}

// about names the operation and the volume in an error.
func (p *pool) about(err error, op string, v datastore.Volume) error {
	return fault.Wrap(err, op, "volume "+shorten(v.ID)+" on datastore "+p.name)
}

// place is a slot of a member.
type place struct {
	member *member
	number int
}

// find returns where the mark of a volume is, on a disk that was there when it was looked at last.
func (p *pool) find(v datastore.Volume) (place, mark, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.sorted() {
		if !m.present() {
			continue
		}
		for n, e := range m.entries {
			if e.mark != nil && e.mark.of(v) {
				return place{m, n}, *e.mark, true
			}
		}
	}
	return place{}, mark{}, false
}

// sorted are the members in the order of their GUIDs. The pool's mu is held.
func (p *pool) sorted() []*member {
	var out []*member
	for _, m := range p.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *member) int { return cmp.Compare(a.guid.String(), b.guid.String()) })
	return out
}

// on does something with the disk and the mark of a volume, which is there in one of some phases. Not there is
// fault.NotFound; on a disk that isn't there, fault.Unavailable.
func (p *pool) on(ctx context.Context, v datastore.Volume, write bool, do func(o opened, number int, k mark) error) error {
	if err := check(v, p.config.ClusterID); err != nil {
		return err
	}
	for range 2 { // the disk may have been read anew
		at, _, ok := p.find(v)
		if !ok && p.lacks(v) { // and it may have come back since
			if err := p.scan(ctx); err != nil {
				return err
			}
			at, _, ok = p.find(v)
		}
		if !ok {
			break
		}
		gone := false
		err := p.with(ctx, at.member, write, func(o opened) error {
			e := o.entry(at.number)
			if e.mark == nil || !e.mark.of(v) {
				gone = true
				return nil
			}
			return do(o, at.number, *e.mark)
		})
		if !gone {
			return err
		}
	}
	return p.absent(v)
}

// lacks tells whether a disk is missing that a volume may be on.
func (p *pool) lacks(v datastore.Volume) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if disk, _, ok := parseLocation(v.Location); ok {
		m := p.members[disk]
		return m == nil || !m.present()
	}
	for _, m := range p.members {
		if !m.present() {
			return true
		}
	}
	return false
}

// absent is the error of a volume that no disk has which is there.
func (p *pool) absent(v datastore.Volume) error {
	disk, partition, ok := parseLocation(v.Location)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ok {
		return fault.New(fault.NotFound, "no disk of the datastore bears its mark")
	}
	m := p.members[disk]
	if m == nil || !m.present() {
		why := error(fault.New(fault.Unavailable, "none of spec.disk.devices leads to it"))
		if m != nil && m.why != nil {
			why = m.why
		}
		return fault.New(fault.Unavailable, "its disk (GUID %s) isn't there: %w", disk, why)
	}
	for n, part := range m.table.Partitions {
		if part.ID == partition && n+1 < slots && m.entries[n+1].err != nil {
			return fault.New(fault.Precondition, "partition %d of %s is there, and its mark can't be told: %w; it was left alone", n+1, m.path, m.entries[n+1].err)
		}
	}
	return fault.New(fault.NotFound, "disk %s bears no mark of it", m.path)
}

// location is a volume's name on the storage: the GUIDs of its disk and partition.
func location(disk gpt.GUID, k mark) string { return fmt.Sprintf("%s/%s", disk, k.Partition) }

func parseLocation(s string) (disk, partition gpt.GUID, ok bool) {
	const length = 36
	if len(s) != 2*length+1 {
		return gpt.GUID{}, gpt.GUID{}, false
	}
	disk, err := gpt.ParseGUID(s[:length])
	if err != nil {
		return gpt.GUID{}, gpt.GUID{}, false
	}
	partition, err = gpt.ParseGUID(s[length+1:])
	return disk, partition, err == nil
}

// made is what Create and Expand answer for a volume with that mark.
func made(disk gpt.GUID, k mark) datastore.Made {
	return datastore.Made{Bytes: k.Bytes, Location: location(disk, k), Identity: k.Partition}
}

// begin keeps Reclaim off a volume that is made until the function that it returns is called.
func (p *pool) begin(v datastore.Volume) (end func()) {
	key := v.UID
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy[key] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, key)
	}
}
