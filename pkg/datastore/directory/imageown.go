package directory

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// changedEvery and writtenEvery are how often a family is measured at most, when members came or went and
	// when they were written to.
	changedEvery = 10 * time.Second
	writtenEvery = time.Minute
	// share of the time that measuring one family may take, as a divisor.
	measuringShare = 50
	// patience is how long one call may measure. The rest has its turn with the next.
	patience = 2 * time.Second
	// mostSpans bounds what is held of a family while it is measured.
	mostSpans = 1 << 18
)

// families are images that may share blocks: a volume, its snapshots and copies, and theirs.
type families struct {
	mu    sync.Mutex
	known map[string]*family
}

// family is what the images of one took when it was measured.
type family struct {
	// union of all blocks, in bytes, and what each image took by itself, by folder.
	union   int64
	members map[string]member
	at      time.Time
	took    time.Duration
}

type member struct {
	allocated int64
	modified  time.Time
}

// own adds up what images take (st_blocks), the blocks that several share once.
//
// An image of which no copy was made costs one look. Families are measured by the places of their blocks (FIEMAP), and
// then only again when members came, went or were written to, at most every ten seconds and every minute, and
// for a fiftieth of the time. In between the sum follows what each image takes: a block that an image takes or gives
// back adds or takes away one, while one that it writes to for the first time since it was copied, and a shared one
// that it gives back, leave the sum too small until the next measurement; so do a new member, which adds
// nothing, and one that went, which takes away all that it had. So the sum is too small by what was written to shared
// blocks since the last measurement, or exact, and never too large but for blocks that changed hands in the moment
// that a measurement takes. What is too small counts as somebody else's: the pool promises less, never more than it has.
//
// Half copies count what they share with nobody. On btrfs, blocks of an extent of which nobody uses that part are
// not counted either.
func (b *images) own(ctx context.Context, root *file.Root, all []entry) (int64, error) {
	b.measured.mu.Lock()
	defer b.measured.mu.Unlock()
	var sum int64
	groups := map[string][]entry{}
	for _, e := range all {
		groups[e.family] = append(groups[e.family], e)
	}
	known := map[string]*family{}
	until := b.pool.tools.Now().Add(patience)
	for name, group := range groups {
		switch {
		case name == "":
			bytes, err := alone(ctx, root, group)
			if err != nil {
				return 0, err
			}
			sum += bytes
			continue
		case len(group) == 1 && b.measured.known[name] == nil:
			sum += group[0].allocated
			continue
		}
		f := b.measured.known[name]
		if now := b.pool.tools.Now(); f.due(group, now) && now.Before(until) {
			union, ok, err := measure(ctx, root, group)
			if err != nil {
				return 0, err
			}
			f = newFamily(group, union, ok, now, b.pool.tools.Now().Sub(now))
		}
		if len(group) > 1 || f.pending(group) {
			known[name] = f
		}
		sum += f.bytes(group)
	}
	b.measured.known = known
	return sum, nil
}

// newFamily remembers a measurement; where it gave up, the least that it can be.
func newFamily(group []entry, union int64, ok bool, at time.Time, took time.Duration) *family {
	f := &family{union: union, members: map[string]member{}, at: at, took: took}
	for _, e := range group {
		f.members[e.dir] = member{e.allocated, e.modified}
		if !ok {
			f.union = max(f.union, e.allocated)
		}
	}
	return f
}

// due tells whether it is time to measure a family.
func (f *family) due(group []entry, now time.Time) bool {
	if f == nil {
		return true
	}
	since, rest := now.Sub(f.at), f.took*measuringShare
	switch {
	case since < 0: // the clock was put back
		return true
	case f.pending(group):
		return since >= max(changedEvery, rest)
	}
	for _, e := range group {
		if !f.members[e.dir].modified.Equal(e.modified) {
			return since >= max(writtenEvery, rest)
		}
	}
	return false
}

// pending tells whether members came or went since the measurement.
func (f *family) pending(group []entry) bool {
	if f == nil || len(f.members) != len(group) {
		return true
	}
	for _, e := range group {
		if _, ok := f.members[e.dir]; !ok {
			return true
		}
	}
	return false
}

// bytes is the least that a family takes now.
func (f *family) bytes(group []entry) int64 {
	var most int64
	for _, e := range group {
		most = max(most, e.allocated) // no image shares with itself
	}
	if f == nil {
		return most
	}
	sum := f.union
	for _, m := range f.members {
		sum -= m.allocated
	}
	for _, e := range group {
		if _, ok := f.members[e.dir]; ok {
			sum += e.allocated
		}
	}
	return max(sum, most)
}

// span is a range of the storage, in bytes.
type span struct{ start, end int64 }

// measure returns how many bytes images take together; false where their blocks are too many to be held.
func measure(ctx context.Context, root *file.Root, group []entry) (int64, bool, error) {
	var spans []span
	for _, e := range group {
		full := false
		err := extentsOf(ctx, root, e, func(x file.Extent) bool {
			spans = append(spans, span{x.Physical, x.Physical + x.Bytes})
			if len(spans) == mostSpans {
				spans = merged(spans)
				full = len(spans) > mostSpans/2
			}
			return !full
		})
		if err != nil || full {
			return 0, false, err
		}
	}
	var sum int64
	for _, s := range merged(spans) {
		sum += s.end - s.start
	}
	return sum, true, nil
}

// merged sorts spans and joins those that touch.
func merged(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
			continue
		}
		out = append(out, s)
	}
	return out
}

// alone adds up what images share with nobody.
func alone(ctx context.Context, root *file.Root, group []entry) (int64, error) {
	var sum int64
	for _, e := range group {
		err := extentsOf(ctx, root, e, func(x file.Extent) bool {
			if !x.Shared {
				sum += x.Bytes
			}
			return true
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// extentsOf tells the extents of an image that have a place. One that is gone meanwhile, or on a file system that
// can't tell, has none.
func extentsOf(ctx context.Context, root *file.Root, e entry, more func(file.Extent) bool) error {
	image, err := root.Open(e.dir + "/" + imageName)
	if foreign(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // it is not even read
	err = file.ExtentsAsTheyAre(ctx, image, 0, math.MaxInt64, func(x file.Extent) bool { return x.Unplaced || more(x) })
	if foreign(err) {
		return nil
	}
	return err
}
