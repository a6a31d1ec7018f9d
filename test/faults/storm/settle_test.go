package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// settleLimit is how long a driver that nobody kills may take to answer what was left open.
const settleLimit = 2 * time.Minute

// until makes a call again until it has an answer.
func (c *caller) until(ctx context.Context, o *object, q request) error {
	for {
		if err := c.do(ctx, o, q); err != nil || !c.lost {
			return err
		}
		if pause(ctx) != nil {
			return context.Cause(ctx)
		}
	}
}

// settle makes calls about an object until its state is known.
func (c *caller) settle(ctx context.Context, o *object) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, fmt.Errorf("%s isn't settled after %v", o.name, settleLimit))
	defer cancel()
	if o.worlds.some(func(w world) bool { return w.phase == deleting }) { // until its deletion is asked for again it stays so
		if err := c.until(ctx, o, c.remove(o)); err != nil {
			return err
		}
	}
	if o.pending != nil {
		if err := c.until(ctx, o, *o.pending); err != nil {
			return err
		}
	}
	sure := func() bool { _, sure := o.worlds.drift().certain(); return sure }
	var calls []request
	if o.volume != nil {
		calls = append(calls, c.unpublish(o), c.unstage(o), c.detach(o))
	}
	for _, q := range calls {
		if sure() {
			break
		}
		if err := c.until(ctx, o, q); err != nil {
			return err
		}
	}
	for range 4 { // phase, size, end, and what one of them brought to light
		if sure() {
			break
		}
		if err := c.until(ctx, o, c.whatever(o)); err != nil {
			return err
		}
	}
	if !sure() {
		if err := c.measure(ctx, o); err != nil {
			return err
		}
	}
	if !sure() {
		return fmt.Errorf("caller %d: all calls about %s have an answer, and still it may be %v", c.number, o.name, o.worlds)
	}
	o.pending = nil
	return nil
}

// settleAll settles copies before what they are made of: while a copy may be under way its source can be busy.
func (c *caller) settleAll(ctx context.Context) error {
	left := c.objects()
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(o *object) bool { return !c.copied(o) })
		if i < 0 {
			return fmt.Errorf("caller %d: copies of each other", c.number)
		}
		if err := c.settle(ctx, left[i]); err != nil {
			return err
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// whatever is the call that tells most of an object that nobody uses.
func (c *caller) whatever(o *object) request {
	phases, ends, most := map[phase]bool{}, map[string]bool{}, int64(0)
	for w := range o.worlds.drift() {
		phases[w.phase], ends[w.end] = true, true
		most = max(most, w.want)
	}
	switch {
	case most > 0 && o.present():
		return c.expandTo(o, most)
	case o.volume != nil && o.present() && c.can.modify && len(ends) > 1:
		return c.modifyTo(o, "delete")
	case phases[deleting], o.src != nil && phases[making] && o.age != o.src.endings: // what it is a copy of may be gone for good
		return c.remove(o)
	case o.snapshot != nil && phases[making]:
		return c.createSnapshot(o)
	case o.snapshot != nil:
		return c.remove(o)
	case phases[making]:
		return c.createVolume(o)
	}
	return c.validate(o)
}

// measure asks for the size of a volume.
func (c *caller) measure(ctx context.Context, o *object) error {
	listed, err := c.driver.Listed(ctx)
	if err != nil {
		return err
	}
	entry, is := listed[o.name]
	next := o.worlds.drift().where(func(w world) bool {
		return (w.phase == ready) == is && (!is || w.size == entry.GetVolume().GetCapacityBytes())
	})
	if len(next) == 0 {
		return fmt.Errorf("caller %d: %s may be %v, listed is %v", c.number, o.name, o.worlds, entry)
	}
	o.worlds = next
	return nil
}

// rest settles all that the caller owns, and looks what it holds.
func (c *caller) rest(ctx context.Context, all bool) error {
	random := rand.New(rand.NewPCG(c.random.Uint64(), 0)) // one draw, whatever there is to look at
	if err := c.settleAll(ctx); err != nil {
		return err
	}
	for _, o := range c.objects() {
		if o.present() && (all || random.IntN(2) == 0) {
			if err := c.verify(ctx, o, random); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify reads what a volume holds, bringing it up for that where it isn't, or what a snapshot holds from a volume that is restored
// from it.
func (c *caller) verify(ctx context.Context, o *object, random *rand.Rand) error {
	if o.snapshot != nil {
		return c.restore(ctx, o, random)
	}
	w, _ := o.worlds.certain()
	if w.target {
		return c.read(o)
	}
	if w.staged != "" && w.attached != w.staged { // it was detached, or attached otherwise, while it was staged
		if err := c.until(ctx, o, c.unstage(o)); err != nil {
			return err
		}
	}
	up := []request{}
	if w.attached == "" || w.stale || o.volume.PublishContext == nil {
		up = append(up, c.detach(o), c.attach(o, random))
	}
	for _, q := range append(up, c.stage(o), c.publish(o)) {
		if err := c.until(ctx, o, q); err != nil {
			return err
		}
	}
	if published := o.worlds.all(func(w world) bool { return w.target }); !published {
		return fmt.Errorf("caller %d: %s doesn't come up: it may be %v", c.number, o.name, o.worlds)
	}
	if err := c.read(o); err != nil {
		return err
	}
	if w.attached != "" {
		return nil
	}
	return c.down(ctx, o)
}

// down takes a volume out of use.
func (c *caller) down(ctx context.Context, o *object) error {
	for _, q := range []request{c.unpublish(o), c.unstage(o), c.detach(o)} {
		if err := c.until(ctx, o, q); err != nil {
			return err
		}
	}
	return nil
}

// restore makes a volume from a snapshot, reads it, and deletes it.
func (c *caller) restore(ctx context.Context, from *object, random *rand.Rand) error {
	claim := c.copyOf(from, random)
	c.made++
	claim.Mutable = nil
	claim.Name = fmt.Sprintf("look-%d-%d", c.number, c.made)
	o := &object{
		name: claim.Name, worlds: only(world{phase: absent}), src: from, age: from.endings, kind: claim, volume: c.prepare(len(c.volumes), claim),
	}
	if err := c.until(ctx, o, c.createVolume(o)); err != nil {
		return err
	}
	if !o.present() {
		return fmt.Errorf("caller %d: %s can't be restored: it may be %v", c.number, from.name, o.worlds)
	}
	if err := c.verify(ctx, o, random); err != nil {
		return err
	}
	from.holds = o.holds
	return c.until(ctx, o, c.remove(o))
}

// leave ends all that the caller owns, in any order, and checks that it is gone.
func (c *caller) leave(ctx context.Context) error {
	all := c.objects()
	c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, o := range all {
		if o.volume != nil {
			if err := c.down(ctx, o); err != nil {
				return err
			}
		}
		if o.volume == nil && o.snapshot == nil {
			continue
		}
		if err := c.until(ctx, o, c.remove(o)); err != nil {
			return err
		}
		if !o.gone() {
			return errors.New(o.name + " isn't gone")
		}
	}
	return nil
}
