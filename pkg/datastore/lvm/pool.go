package lvm

import (
	"context"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// pool is a volume group's free space, or a thin pool, that was opened as a datastore's.
type pool struct {
	*shared
	datastore    string
	spec         v1alpha1.LVMSpec
	paths        []string
	thinPool     string // "" for thick volumes
	systemID     string
	marker       marker
	tools        datastore.Tools
	capabilities datastore.Capabilities

	// activation keeps a volume that is activated for a moment from being deactivated under somebody who opens it.
	activation sync.Mutex

	// reclaiming holds the call of Reclaim that runs.
	reclaiming chan struct{}

	mu       sync.Mutex
	making   map[string]bool // names of volumes that a call works on
	attached map[string]bool // names of volumes that were opened, and not closed since
	defaults v1alpha1.VolumeDefaults
	capacity v1alpha1.CapacityPolicy
	// full says why a thin pool promises nothing new, as of the last measurement.
	full error
	// looked is when the group was last asked for all, and what it said.
	looked time.Time
	last   *lvm.VolumeGroup
}

var _ datastore.Pool = (*pool)(nil)

// Update takes up what an administrator changed of a datastore that keeps its place.
func (p *pool) Update(d *v1alpha1.Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defaults, p.capacity = d.Spec.Volumes, d.Spec.Capacity
}

// enter looks at the group and makes sure that it is still the pool. Whatever is wrong with it is fault.Unavailable.
func (p *pool) enter(ctx context.Context) (*lvm.VolumeGroup, error) {
	vg, err := p.View(ctx)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err)
	}
	p.space.see(vg)
	return vg, p.check(vg)
}

// fresh is enter with what LVM asks the kernel, as of now.
func (p *pool) fresh(ctx context.Context) (*lvm.VolumeGroup, error) {
	vg, err := p.Fresh(ctx)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err)
	}
	p.space.see(vg)
	p.mu.Lock()
	p.looked, p.last = p.tools.Now(), vg
	p.mu.Unlock()
	return vg, p.check(vg)
}

// often is how old an answer may be that is asked for once for each volume.
const often = 5 * time.Second

// recent is fresh, or as it was a moment ago.
func (p *pool) recent(ctx context.Context) (*lvm.VolumeGroup, error) {
	now, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	last, age := p.last, p.tools.Now().Sub(p.looked)
	p.mu.Unlock()
	if last != nil && last.Seqno == now.Seqno && age >= 0 && age < often {
		return last, nil
	}
	return p.fresh(ctx)
}

func (p *pool) check(vg *lvm.VolumeGroup) error {
	where := p.where(vg)
	m, err := readMarker(p.tagsOf(vg), where)
	switch {
	case err != nil:
		return fault.New(fault.Unavailable, "it is not the pool that was opened (%s): %w; nothing was changed", p.marker.Pool, err)
	case !m.samePool(p.marker):
		return fault.New(fault.Unavailable, "%s holds pool %s of datastore %q, cluster %q and machine %s, which is not the one that was opened (pool %s); nothing was changed",
			where, shorten(m.Pool), shorten(m.Datastore), shorten(m.Cluster), shorten(m.Machine), p.marker.Pool)
	}
	return p.mayUse(vg)
}

// about names the operation and the volume in an error.
func (p *pool) about(err error, op string, v datastore.Volume) error {
	kind := "volume "
	if v.Snapshot {
		kind = "snapshot "
	}
	return fault.Wrap(err, op, kind+shorten(v.ID)+" on datastore "+p.datastore)
}

// state is how far a volume's life is.
type state int

const (
	whole state = iota
	making
	remains
	kept // retained, or archived
)

func stateOf(tags []string) state {
	for _, t := range tags {
		switch {
		case strings.HasPrefix(t, remainsTag):
			return remains
		case t == makingTag:
			return making
		}
	}
	if value(tags, keptTag) != "" {
		return kept
	}
	return whole
}

// mine tells whether a volume lies in this pool and bears a tag of ours.
func (p *pool) mine(lv lvm.LogicalVolume) bool {
	return lv.Kind != lvm.ThinPool && lv.Pool == p.thinPool && len(having(lv.Tags, ours)) > 0
}

// item is a volume that was found under its name, with its mark.
type item struct {
	lvm.LogicalVolume
	mark  mark
	state state
}

// lookUp returns what lies under a volume's name and bears its mark, in whatever state. None is fault.NotFound; something else in its
// place fault.Precondition.
func (p *pool) lookUp(vg *lvm.VolumeGroup, v datastore.Volume) (item, error) {
	if err := checkNames(v); err != nil {
		return item{}, err
	}
	if v.ClusterID != p.marker.Cluster {
		return item{}, fault.New(fault.Precondition, "the volume is of cluster %q, the datastore of cluster %q", shorten(v.ClusterID), p.marker.Cluster)
	}
	name := lvName(v)
	lv, ok := vg.LVs[name]
	if !ok {
		return item{}, fault.New(fault.NotFound, "volume group %s has no logical volume %s", vg.Name, name)
	}
	at := vg.Name + "/" + name
	if lv.Pool != p.thinPool {
		return item{}, fault.New(fault.Precondition, "%s lies in thin pool %q, the datastore in %q; it was left alone", at, lv.Pool, p.thinPool)
	}
	m, err := readMark(lv.Tags)
	if fault.Is(err, fault.NotFound) {
		return item{}, fault.New(fault.Precondition, "%s bears no mark, so it is not known to be the volume; it was left alone: restore its tags, or rename it", at)
	}
	if err != nil {
		return item{}, fault.Wrap(fault.As(fault.Precondition, err), "read", at)
	}
	if !m.of(v) {
		return item{}, fault.New(fault.Precondition, "%s bears the mark of volume %q, UID %q, of cluster %q; asked for was %q, UID %q, of cluster %q; it was left alone",
			at, shorten(m.ID), shorten(m.UID), shorten(m.ClusterID), v.ID, v.UID, v.ClusterID)
	}
	return item{lv, m, stateOf(lv.Tags)}, nil
}

// find is lookUp of what is whole.
func (p *pool) find(vg *lvm.VolumeGroup, v datastore.Volume) (item, error) {
	i, err := p.lookUp(vg, v)
	if err == nil && (i.state == making || i.state == remains) {
		err = fault.New(fault.NotFound, "%s/%s was not finished, or is deleted", vg.Name, i.Name)
	}
	return i, err
}

// begin keeps Reclaim off a volume until the function that it returns is called.
func (p *pool) begin(name string) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making[name] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.making, name)
	}
}

func (p *pool) worksOn(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.making[name]
}

// wipeOf is what is to be done to a volume's bytes at its end. A thin pool zeroes each block before it gives it to a volume, so that
// nothing needs to be done; in a volume group the next volume would read what was there.
func (p *pool) wipeOf(w v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case w != v1alpha1.WipeDefault:
		return w
	case p.defaults.Wipe != v1alpha1.WipeDefault:
		return p.defaults.Wipe
	case p.thinPool != "":
		return v1alpha1.WipeNone
	}
	return v1alpha1.WipeZero
}

// humanBytes writes bytes exactly, in the largest unit that divides them.
func humanBytes(n int64) string { return resource.NewQuantity(max(0, n), resource.BinarySI).String() }
