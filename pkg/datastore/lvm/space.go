package lvm

import (
	"slices"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// mostPieces is in how many pieces a volume may lie.
const mostPieces = 32

// space knows of a group's free extents which read as zeroes: those that this process has zeroed itself while nobody else changed the
// group. All methods may be called concurrently.
type space struct {
	mu    sync.Mutex
	epoch int64
	// seqno is of the latest state of the group that was seen in that epoch.
	seqno int64
	clean []lvm.Range
	// taken are extents that somebody is about to make a volume of.
	taken []lvm.Range
}

// pick chooses extents for a volume, and keeps others off them until done is called. Where clean is set they read as
// zeroes, and false says that there are not enough of those. Otherwise those that are known to are spared, and no
// extents say that LVM must choose. Too few are fault.Exhausted.
func (s *space) pick(vg *lvm.VolumeGroup, extents int64, clean bool) (on []lvm.Range, ok bool, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow(vg)
	free := lvm.Subtract(usable(vg), s.taken)
	if n := lvm.Count(free); vg.Layout && n < extents {
		return nil, false, nil, fault.New(fault.Exhausted, "volume group %s has %s free, %s are needed", vg.Name,
			humanBytes(n*vg.ExtentSize), humanBytes(extents*vg.ExtentSize))
	}
	if clean {
		on, ok = lvm.Pick(lvm.Intersect(s.clean, free), extents, mostPieces)
	} else if on, ok = lvm.Pick(lvm.Subtract(free, s.clean), extents, mostPieces); !ok {
		on, ok = lvm.Pick(free, extents, mostPieces)
	}
	if !ok {
		return nil, false, func() {}, nil
	}
	s.clean = lvm.Subtract(s.clean, on)
	s.taken = append(s.taken, on...)
	return on, true, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken = lvm.Subtract(s.taken, on)
	}, nil
}

// usable are the free extents on devices that are there and may be used.
func usable(vg *lvm.VolumeGroup) []lvm.Range {
	return slices.DeleteFunc(slices.Clone(vg.Free), func(r lvm.Range) bool {
		return !slices.ContainsFunc(vg.PVs, func(p lvm.PhysicalVolume) bool { return p.UUID == r.PV && !p.Missing && p.Allocatable })
	})
}

// see is told of every state of the group that is looked at, before anything is changed by it: LVM may have given extents that read as
// zeroes to a volume by its own choice, and they are given back with what that wrote.
func (s *space) see(vg *lvm.VolumeGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow(vg)
}

// follow forgets what may not hold any more. Which extents LVM has taken is not known without the layout.
func (s *space) follow(vg *lvm.VolumeGroup) {
	if s.epoch != vg.Epoch {
		s.epoch, s.seqno, s.clean = vg.Epoch, vg.Seqno, nil
	}
	s.seqno = max(s.seqno, vg.Seqno)
	if !vg.Layout {
		s.clean = nil
		return
	}
	s.clean = lvm.Intersect(s.clean, vg.Free)
}

// zeroed says that extents which were given back read as zeroes, unless somebody else was there since the group was looked at before.
func (s *space) zeroed(before, after *lvm.VolumeGroup, ranges []lvm.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow(after)
	// What others chose meanwhile, or have by now, is theirs to write to.
	if before.Epoch == after.Epoch && after.Layout && after.Seqno == s.seqno {
		s.clean = lvm.Union(s.clean, lvm.Subtract(lvm.Intersect(ranges, after.Free), s.taken))
	}
}
