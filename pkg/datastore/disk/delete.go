package disk

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// Delete makes a volume that the kernel says nobody uses a remainder, by one writing of its mark; Reclaim wipes it.
func (p *pool) Delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	return p.about(p.delete(ctx, v, d), "delete", v)
}

func (p *pool) delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	if v.Snapshot {
		return nil // there are none
	}
	switch d.Policy {
	case "", v1alpha1.DeleteData, v1alpha1.RetainData, v1alpha1.ArchiveData:
	default:
		return fault.New(fault.Invalid, "policy %q is not known to this type", shorten(string(d.Policy)))
	}
	err := p.on(ctx, v, true, func(o opened, n int, k mark) error {
		if k.Phase == remainder || k.Phase == archived {
			return nil
		}
		if !o.partition(n).Used() {
			return o.clear(ctx, n) // never made, or somebody took it out of the table: its place may be another's
		}
		if err := o.matches(n, k); err != nil {
			return err
		}
		if err := o.detach(ctx, n); err != nil {
			return err
		}
		switch {
		case d.Policy == v1alpha1.RetainData && k.there():
			return o.keep(ctx, n, k, retained)
		case d.Policy == v1alpha1.ArchiveData && k.there():
			return o.keep(ctx, n, k, archived)
		}
		return o.giveUp(ctx, n, k, p.wipeOf(d.Wipe))
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// keep says in the mark that a volume was deleted, and its data kept.
func (o opened) keep(ctx context.Context, n int, k mark, as phase) error {
	if k.Phase == as {
		return nil
	}
	now := o.pool.tools.Now().UTC()
	k.Phase, k.Kept, k.Grow = as, &now, 0
	return o.note(ctx, n, k)
}

// giveUp makes of a volume a remainder, with the order for its wipe.
func (o opened) giveUp(ctx context.Context, n int, k mark, wipe v1alpha1.WipePolicy) error {
	if k.Phase == making && k.Clean && k.Source == nil && k.Access == v1alpha1.Block {
		wipe = v1alpha1.WipeNone // nothing was ever written to it
	} else {
		k.Clean = false
	}
	k.Phase, k.Order, k.Done, k.Grow, k.Noted = remainder, ordered(wipe, k.Order), 0, 0, o.pool.tools.Now().UTC()
	return o.note(ctx, n, k)
}

// Reclaim wipes and frees remainders, on all disks at once, and what broken calls left.
func (p *pool) Reclaim(ctx context.Context) error {
	return fault.Wrap(p.reclaim(ctx), "reclaim space of datastore", p.name)
}

func (p *pool) reclaim(ctx context.Context) error {
	select {
	case p.reclaiming <- struct{}{}:
		defer func() { <-p.reclaiming }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	members := slices.DeleteFunc(p.sorted(), func(m *member) bool { return !m.present() })
	p.mu.Unlock()
	errs := make([]error, len(members))
	var work errgroup.Group
	for i, m := range members {
		work.Go(func() error {
			errs[i] = p.reclaimOn(ctx, m)
			return nil
		})
	}
	return errors.Join(work.Wait(), errors.Join(errs...))
}

func (p *pool) reclaimOn(ctx context.Context, m *member) error {
	var errs []error
	for n := 2; n < slots; n++ {
		p.mu.Lock()
		k, lies := m.entries[n].mark, m.lies(n)
		p.mu.Unlock()
		if k == nil || k.keeps() && lies {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, p.settle(ctx, m, n, *k))
	}
	return errors.Join(errs...)
}

// settle brings what is in a slot to its end where nobody works on it.
func (p *pool) settle(ctx context.Context, m *member, n int, k mark) error {
	switch {
	case k.Phase == making && !p.goesOn(k):
		given := k
		err := p.at(ctx, m, n, k, func(o opened, now mark) error {
			if p.goesOn(now) {
				return nil
			}
			if err := o.giveUp(ctx, n, now, p.wipeOf(now.Wipe)); err != nil {
				return err
			}
			given = *o.entry(n).mark
			return nil
		})
		if err != nil || given.Phase != remainder {
			return err
		}
		return p.free(ctx, m, n, given)
	case k.Phase == remainder:
		return p.free(ctx, m, n, k)
	case k.keeps():
		// Whoever takes what is kept out of the table wants it no more.
		return p.at(ctx, m, n, k, func(o opened, _ mark) error {
			if o.partition(n).Used() {
				return nil
			}
			return o.clear(ctx, n)
		})
	case k.Grow > 0 && !p.isBusy(k):
		return p.at(ctx, m, n, k, func(o opened, now mark) error {
			if p.isBusy(now) {
				return nil
			}
			return o.settleGrowth(ctx, n, now)
		})
	}
	return nil
}

// kept is how long a volume that is half zeroed or copied is kept, so that it can go on: an agent that is started again
// does so at once, and one whose record is gone has it removed.
const kept = 24 * time.Hour

// goesOn tells whether a volume that is being made is worked on, or may be.
func (p *pool) goesOn(k mark) bool {
	return p.isBusy(k) || k.Done > 0 && p.tools.Now().Sub(k.Noted) < kept
}

func (p *pool) isBusy(k mark) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy[k.UID]
}

// at does something with a slot that is still the same volume's, in the same phase.
func (p *pool) at(ctx context.Context, m *member, n int, k mark, do func(o opened, now mark) error) error {
	return p.with(ctx, m, true, func(o opened) error {
		now := o.entry(n).mark
		if now == nil || now.Partition != k.Partition || now.Phase != k.Phase {
			return nil
		}
		return do(o, *now)
	})
}

// free wipes a remainder as was ordered, from where it was cut off, and gives its space back.
func (p *pool) free(ctx context.Context, m *member, n int, k mark) error {
	var wiped part
	gone := false
	err := p.at(ctx, m, n, k, func(o opened, now mark) (err error) {
		k = now
		if !o.partition(n).Used() {
			gone = true // a crash behind the writing of the table, or never made
			return o.clear(ctx, n)
		}
		if err := o.matches(n, now); err != nil {
			return fault.Wrap(err, "wipe what is left of", now.ID)
		}
		wiped, err = o.claim(ctx, n, now, true)
		return err
	})
	if err != nil || gone || wiped.file == nil {
		return err
	}
	if err := errors.Join(p.wipe(ctx, k, wiped), wiped.close()); err != nil {
		return err
	}
	return p.at(ctx, m, n, k, func(o opened, now mark) error { return o.release(ctx, n, now, wiped) })
}

// wipe does to a remainder what was ordered.
func (p *pool) wipe(ctx context.Context, k mark, of part) error {
	size, err := blockdev.SizeOf(of.file)
	if err != nil {
		return err
	}
	switch strength(k.Order) {
	case 0:
		return nil
	case 1:
		_, err = blockdev.Discard(ctx, of.file, 0, size, func(int64) error { return nil })
		return err
	}
	return p.noting(ctx, k.volume(), remainder, func(tell blockdev.Tell) error {
		return blockdev.Zero(ctx, of.file, min(k.Done, size), size, tell)
	})
}

// release takes a remainder that is wiped out of the kernel, the table and the marks, in this order, and notes whether
// its space is clean.
func (o opened) release(ctx context.Context, n int, k mark, was part) error {
	if err := o.detach(ctx, n); err != nil {
		return err
	}
	m := o.pool.markerOf(o.member)
	span := was.device.Span
	clean := without(m.Clean, span)
	if strength(k.Order) == 2 || k.Clean {
		clean = joined(m.Clean, span)
	}
	if !slices.Equal(clean, m.Clean) {
		m.Clean = clean
		if err := o.noteMarker(ctx, m); err != nil {
			return err
		}
	}
	if err := o.change(ctx, func(t *gpt.Table) { t.Partitions[n-1] = gpt.Partition{} }); err != nil {
		return err
	}
	return o.clear(ctx, n)
}

func (p *pool) markerOf(m *member) marker {
	p.mu.Lock()
	defer p.mu.Unlock()
	return m.marker
}
