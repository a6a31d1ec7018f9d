package storm

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// object is a volume or a snapshot, and what the model knows of it. One caller owns it.
type object struct {
	name   string
	worlds worlds
	// holds is what it may hold while it is there.
	holds contents
	// src is what it was made as a copy of, or nil, and age that of src when it was first asked for.
	src *object
	age int
	// endings counts how often it may have been deleted: what has its name then is another.
	endings int
	// pending is the last call whose outcome isn't known; nil where nothing is open.
	pending *request

	// kind is the claim of the first of its line: what copies of it are.
	kind harness.Claim

	volume   *harness.Volume   // nil for a snapshot
	snapshot *harness.Snapshot // nil for a volume
}

// request is a call about an object.
type request struct {
	// move is asked just before the call: what is allowed depends on the state of other objects too.
	move func() move
	call func(context.Context) error
	// size is what a success said of the object's size; nil: nothing.
	size func() int64
}

func (o *object) present() bool {
	return o.worlds.all(func(w world) bool { return w.phase == ready })
}

func (o *object) gone() bool {
	return o.worlds.all(func(w world) bool { return w.phase == absent })
}

// open tells whether a call about the object has no answer yet.
func (o *object) open() bool { return o.pending != nil }

// usable tells whether a volume is surely published for writing.
func (o *object) usable() bool {
	return o.worlds.all(func(w world) bool { return w.target && w.staged == readWrite && !w.half })
}

// excused are the codes by which a call that was disturbed may end, whatever it did.
func excused(code codes.Code) bool {
	return slices.Contains([]codes.Code{
		codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Internal, codes.Canceled,
	}, code)
}

// do makes a call and brings the model up to date. An answer that the model can't explain is an error.
func (c *caller) do(ctx context.Context, o *object, q request) error {
	epoch, err := c.reaper.begin(ctx)
	if err != nil {
		return err
	}
	m, before := q.move(), o.worlds
	err = q.call(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.calls++
	return c.judge(o, q, m, before, err, c.reaper.disturbed(epoch, err))
}

func (c *caller) judge(o *object, q request, m move, before worlds, err error, disturbed bool) error {
	code := status.Code(err)
	next := m.answered(before, code)
	if code == codes.OK && q.size != nil {
		size := q.size()
		next = next.where(func(w world) bool { return w.size == size })
	}
	lost := excused(code) && (disturbed || o.open())
	// While a copy of it may be under way, its source can be busy.
	lost = lost || (c.copied(o) && (excused(code) || code == codes.FailedPrecondition))
	c.note(o, m, err, disturbed, lost)
	c.lost = lost
	switch {
	case lost:
		for w := range m.unanswered(before) {
			next[w] = true
		}
		o.pending = &q
	case len(next) == 0:
		answer := status.Convert(err).Message()
		if code == codes.OK && q.size != nil {
			answer = fmt.Sprintf("%d bytes", q.size())
		}
		return fmt.Errorf("caller %d, call %d: %s of %s: %v: %s; it may be %v, which allows %v",
			c.number, c.calls, m.name, o.name, code, answer, before, m.allowed(before))
	}
	c.become(o, next, m.makes, lost)
	return nil
}

// become is what an object may be from now on. A call that was lost leaves it open.
func (c *caller) become(o *object, next worlds, made, lost bool) {
	o.worlds = c.kept.count(o.worlds, next, made)
	if !o.present() {
		o.endings++
	}
	if _, sure := next.drift().certain(); sure && !lost {
		o.pending = nil
	}
	if o.gone() && !o.open() {
		o.holds = nil
	}
}

// copied tells whether a copy of an object may be under way.
func (c *caller) copied(o *object) bool {
	return slices.ContainsFunc(c.objects(), func(copy *object) bool { return copy.src == o && copy.open() })
}

// source says what a copy of an object can be: the sizes that it has, and why it may be refused. Least is the size asked for, 0: the
// source's.
func (c *caller) source(o *object, least int64) (sizes []int64, refusals []codes.Code) {
	for w := range o.worlds.drift() {
		switch {
		case w.phase == absent:
			refusals = append(refusals, codes.NotFound)
			continue
		case w.phase != ready:
			refusals = append(refusals, codes.NotFound, codes.FailedPrecondition, codes.Unavailable, codes.Aborted)
			continue
		}
		if o.kind.Parameters["format"] == "subdirectory" && !c.subvolumes { // copied by none of these file systems
			refusals = append(refusals, codes.InvalidArgument)
			continue
		}
		if inUse := w.attached != "" || w.staged != ""; inUse && !c.instant(o) {
			refusals = append(refusals, codes.FailedPrecondition)
			if !w.half {
				continue
			}
		}
		if least > 0 && least < w.size {
			refusals = append(refusals, codes.OutOfRange)
			continue
		}
		sizes = append(sizes, max(c.storage.Can().Round(least), w.size))
	}
	return sizes, refusals
}

// createVolume makes a volume, or asks for it again.
func (c *caller) createVolume(o *object) request {
	return request{
		move: func() move {
			if o.src == nil {
				return create([]int64{c.storage.Can().Round(o.volume.Bytes)}, o.volume.Mutable[onDelete])
			}
			sizes, refusals := c.source(o.src, o.volume.Bytes)
			return c.unlessReplaced(o, create(sizes, o.volume.Mutable[onDelete], refusals...))
		},
		call: func(ctx context.Context) error { o.inherit(); return o.volume.Create(ctx) },
		size: func() int64 { return o.volume.Size },
	}
}

// createSnapshot makes a snapshot and waits until it can be used.
func (c *caller) createSnapshot(o *object) request {
	return request{
		move: func() move {
			sizes, refusals := c.source(o.src, 0)
			return c.unlessReplaced(o, create(sizes, "", refusals...))
		},
		call: func(ctx context.Context) error { o.inherit(); return c.untilReady(ctx, o) },
		size: func() int64 { return o.snapshot.Size },
	}
}

// unlessReplaced allows for what becomes of a repeated call where another volume has the name of the copy's source by now: it is
// another call then.
func (c *caller) unlessReplaced(o *object, m move) move {
	named := func(v *object) bool { return v != o.src && v.name == o.src.name }
	if o.age == o.src.endings && !slices.ContainsFunc(c.volumes, named) {
		return m
	}
	as := m.outcomes
	m.outcomes = func(w world) []outcome {
		return append(as(w), stays(w, codes.AlreadyExists)...)
	}
	return m
}

// untilReady calls CreateSnapshot until the snapshot is whole. Where a copy is under way another call about it may have to wait.
func (c *caller) untilReady(ctx context.Context, o *object) error {
	ctx, cancel := context.WithTimeout(ctx, reviveLimit)
	defer cancel()
	for {
		if err := o.snapshot.Create(ctx); err != nil || o.snapshot.Answer.GetReadyToUse() {
			return err
		}
		if err := pause(ctx); err != nil {
			return status.FromContextError(err).Err()
		}
	}
}

// inherit notes what an object that is made now may hold. One that is there holds what it holds.
func (o *object) inherit() {
	switch {
	case o.present():
	case o.src != nil:
		o.holds = o.holds.with(o.src.holds)
	default:
		o.holds = o.holds.with(contents{{}})
	}
}

// write writes a slot of a volume that is published. A copy of it that is open may be made at any time.
func (c *caller) write(o *object, slot int) error {
	c.writes++
	seed := fmt.Sprintf("%s/%d", o.name, c.writes)
	if err := put(o.volume, slot, seed); err != nil {
		return fmt.Errorf("write to %s: %w", o.name, err)
	}
	o.holds = o.holds.written(slot, seed)
	for _, copy := range c.objects() {
		if copy.src == o && copy.open() {
			copy.holds = copy.holds.with(o.holds)
		}
	}
	c.notef("%s: slot %d written", o.name, slot)
	return nil
}

// read checks what a volume that is published holds.
func (c *caller) read(o *object) error {
	got, err := o.holds.read(o.volume)
	if err != nil {
		return fmt.Errorf("caller %d, call %d: %w", c.number, c.calls, err)
	}
	o.holds = got
	c.notef("%s: read", o.name)
	return nil
}
