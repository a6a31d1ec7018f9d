package lvm

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// remainder is the tag of what waits for that to be done to it, and then for its removal.
func (p *pool) remainder(w v1alpha1.WipePolicy) string {
	return remainsTag + p.marker.Pool + "/" + string(w)
}

// ordered is what must be done to a remainder of this pool; false says that it is another's.
func (p *pool) ordered(tags []string) (v1alpha1.WipePolicy, bool) {
	pool, wipe, _ := strings.Cut(value(tags, remainsTag), "/")
	return v1alpha1.WipePolicy(wipe), pool != "" && pool == p.marker.Pool
}

// Delete removes a thin volume, and makes a remainder of a thick one whose bytes must be wiped, in one call. One that is in use is
// fault.Precondition, and nothing is done.
func (p *pool) Delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	return p.about(p.delete(ctx, v, d), "delete", v)
}

func (p *pool) delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	// A copy that was told to end may not have ended yet, and notes how far it is: a wipe would begin there.
	if !p.claim(lvName(v)) {
		return fault.New(fault.Busy, "another call works on it; try again")
	}
	defer p.unclaim(lvName(v))
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	i, err := p.lookUp(vg, v)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || i.state == remains {
		return err
	}
	if i.state != making {
		switch d.Policy {
		case "", v1alpha1.DeleteData:
		case v1alpha1.RetainData, v1alpha1.ArchiveData:
			return p.keep(ctx, vg, i, d.Policy)
		default:
			return fault.New(fault.Invalid, "policy %q is not known to this version", shorten(string(d.Policy)))
		}
	}
	wipe := p.wipeOf(d.Wipe)
	if !slices.Contains(p.capabilities.Wipe, wipe) {
		return fault.New(fault.Precondition, "wipe %q can't be had here; %v can", wipe, p.capabilities.Wipe)
	}
	return errors.Join(p.scrap(ctx, i.LogicalVolume, wipe), p.dropTemporary(ctx, lvName(v)))
}

// scrap takes a volume out of use for good. What must not be removed yet waits for Reclaim.
func (p *pool) scrap(ctx context.Context, lv lvm.LogicalVolume, wipe v1alpha1.WipePolicy) error {
	if lv.Kind == lvm.Snapshot && wipe != v1alpha1.WipeNone {
		if err := p.Split(ctx, lv.Name); err != nil {
			return err
		}
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	if wipe == v1alpha1.WipeNone && len(vg.SnapshotsOf(lv.Name)) == 0 {
		return p.Remove(ctx, lvm.Removal{}, lv.Name)
	}
	lv, there := vg.LVs[lv.Name] // how far work on it came may have been noted since the caller looked
	if !there {
		return nil
	}
	retag := lvm.Retag{Name: lv.Name, Add: []string{p.remainder(wipe), since(p.tools.Now())}, Remove: slices.Concat(
		[]string{makingTag}, having(lv.Tags, atTag), having(lv.Tags, keptTag), having(lv.Tags, sinceTag))}
	device, err := p.bare(ctx, vg, lv.Name)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return err
	case device.Opens > 0:
		return fault.New(fault.Precondition, "%s/%s is in use: %s is open %d times", vg.Name, lv.Name, device.Path, device.Opens)
	default:
		retag.Deactivate = true
	}
	return p.Retag(ctx, retag)
}

func since(t time.Time) string { return sinceTag + strconv.FormatInt(t.Unix(), 10) }

// keep marks a volume as one that was deleted and whose data stays; an archived one gets a name that people can read.
func (p *pool) keep(ctx context.Context, vg *lvm.VolumeGroup, i item, policy v1alpha1.DeletePolicy) error {
	if device, err := p.bare(ctx, vg, i.Name); err == nil && device.Opens > 0 {
		return fault.New(fault.Precondition, "%s/%s is in use: %s is open %d times", vg.Name, i.Name, device.Path, device.Opens)
	}
	if i.state != kept {
		at := strconv.FormatInt(p.tools.Now().Unix(), 10)
		if err := p.Retag(ctx, lvm.Retag{Name: i.Name, Add: []string{keptTag + string(policy) + "/" + at}, Deactivate: i.Active}); err != nil {
			return err
		}
	}
	if policy != v1alpha1.ArchiveData {
		return nil
	}
	name := archiveName(i.mark, p.tools.Now())
	for n := 1; n <= mostNames; n++ {
		to := name
		if n > 1 {
			to += "-" + strconv.Itoa(n)
		}
		if err := p.Rename(ctx, i.Name, to); !fault.Is(err, fault.Exists) {
			return err
		}
	}
	return fault.New(fault.Exhausted, "volume group %s holds %d archived volumes of the name %s; rename or remove some", vg.Name, mostNames, name)
}

// mostNames bounds how many archived volumes may have one name.
const mostNames = 1000

// The labels of a volume that name the claim it was made for.
const (
	claimLabel     = house + "pvc-name"
	namespaceLabel = house + "pvc-namespace"
)

// mostReadable bounds a part of a readable name in bytes: LVM takes no more than some hundred in all.
const mostReadable = 32

// archiveName is made of namespace, claim and day, or of the volume's CSI name and the day.
func archiveName(m mark, now time.Time) string {
	parts := []string{"archived"}
	for _, part := range []string{m.Labels[namespaceLabel], m.Labels[claimLabel]} {
		if part = readable(part, mostReadable); part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 1 {
		parts = append(parts, cmp.Or(readable(m.Name, 2*mostReadable), m.ID)) // alone it has the place of two
	}
	return strings.Join(append(parts, now.UTC().Format(time.DateOnly)), ".")
}

// readable makes of a stranger's text what may stand in a volume's name.
func readable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, s[:min(len(s), most)])
	return strings.Trim(s, "-")
}

// Reclaim wipes, where that was ordered, and removes what waits for it, and what calls of Create that broke have left behind.
func (p *pool) Reclaim(ctx context.Context) error {
	return fault.Wrap(p.reclaim(ctx), "reclaim space of datastore", p.datastore)
}

func (p *pool) reclaim(ctx context.Context) error {
	select {
	case p.reclaiming <- struct{}{}:
		defer func() { <-p.reclaiming }()
	case <-ctx.Done():
		return ctx.Err()
	}
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var done []string // need no wipe: removed together
	for _, name := range slices.Sorted(keys(vg.LVs)) {
		lv := vg.LVs[name]
		if !p.mine(lv) || p.worksOn(name) {
			continue
		}
		switch stateOf(lv.Tags) {
		case remains:
			wipe, ours := p.ordered(lv.Tags)
			switch {
			case !ours || len(vg.SnapshotsOf(name)) > 0: // the last snapshot's end is its end
			case wipe == v1alpha1.WipeNone:
				done = append(done, name)
			default:
				errs = append(errs, p.wipe(ctx, name))
			}
		case making:
			errs = append(errs, p.sweep(ctx, name))
		}
	}
	return errors.Join(append(errs, p.removeAll(ctx, done), p.dropTemporaries(ctx))...)
}

// removeAll removes remainders that need no wipe. They are looked at again: since they were found, wiping others may have taken hours, in
// which an administrator may have taken one back.
func (p *pool) removeAll(ctx context.Context, names []string) error {
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		wipe, ours := p.ordered(vg.LVs[name].Tags)
		return !ours || wipe != v1alpha1.WipeNone || len(vg.SnapshotsOf(name)) > 0
	})
	return p.Remove(ctx, lvm.Removal{}, names...)
}

// lasting is how long a copy that was interrupted is kept, so that it can go on.
const lasting = 24 * time.Hour

// sweep takes out of use what a call that broke has left, unless it can be gone on with.
func (p *pool) sweep(ctx context.Context, name string) error {
	if !p.claim(name) {
		return nil
	}
	defer p.unclaim(name)
	// Looked at only now: the call that makes it may have ended well since the caller looked.
	vg, err := p.enter(ctx)
	if err != nil {
		return err
	}
	lv, ok := vg.LVs[name]
	if !ok || !p.mine(lv) || stateOf(lv.Tags) != making {
		return nil
	}
	m, err := readMark(lv.Tags)
	if err != nil || m.ClusterID != p.marker.Cluster {
		return nil // List tells of it
	}
	if len(having(lv.Tags, atTag)) > 0 {
		if begun := number(lv.Tags, sinceTag); p.tools.Now().Sub(time.Unix(begun, 0)) < lasting {
			return nil
		}
	}
	return p.scrap(ctx, lv, p.wipeOf(m.Wipe))
}

// claim is for what nobody works on; false says that somebody does.
func (p *pool) claim(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.making[name] {
		return false
	}
	p.making[name] = true
	return true
}

func (p *pool) unclaim(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.making, name)
}

// wipe does to a remainder what was ordered, from where an earlier call came to, and removes it.
func (p *pool) wipe(ctx context.Context, name string) error {
	before, err := p.layout(ctx)
	if err != nil {
		return err
	}
	lv, there := before.LVs[name]
	if !there {
		return nil
	}
	wipe, ours := p.ordered(lv.Tags)
	if !ours {
		return fault.New(fault.Precondition, "%s/%s is no remainder of this pool; it was left alone", before.Name, name)
	}
	ranges := before.Occupied(name)
	if err := p.AllowWrites(ctx, name); err != nil {
		return err
	}
	removal := lvm.Removal{}
	switch wipe {
	case v1alpha1.WipeDiscard:
		removal.Discard = p.thinPool == ""
		err = p.discard(ctx, name)
	default:
		err = p.zero(ctx, name, 0)
	}
	if err != nil {
		return err
	}
	if lv.Kind == lvm.RAID { // a leg that failed has kept what it had
		now, err := p.fresh(ctx)
		if err != nil {
			return err
		}
		if now.LVs[name].Health != lvm.Sound {
			ranges = nil
		}
	}
	if err := p.Remove(ctx, removal, name); err != nil {
		return err
	}
	if wipe == v1alpha1.WipeZero && p.thinPool == "" {
		after, err := p.layout(ctx)
		if err != nil {
			return err
		}
		p.space.zeroed(before, after, ranges)
	}
	return nil
}

// discard tells the devices below, by way of the thin pool, that a volume's bytes are of no use any more.
func (p *pool) discard(ctx context.Context, name string) error {
	d, err := p.reach(ctx, name)
	if err != nil {
		return err
	}
	return p.withDevice(d, func(f *os.File) error {
		size, err := blockdev.SizeOf(f)
		if err == nil {
			_, err = blockdev.Discard(ctx, f, 0, size, p.note(ctx, name))
		}
		return err
	})
}
