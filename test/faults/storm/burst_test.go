package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// flying is a call that others about the same volume were made beside.
type flying struct {
	request request
	move    move
	err     error
	lost    bool // whatever it answered, it may have been interrupted
}

func (f flying) next(s worlds) worlds {
	code := status.Code(f.err)
	out := f.move.answered(s, code)
	if f.lost {
		for w := range f.move.unanswered(s) {
			out[w] = true
		}
	}
	if code == codes.Aborted { // another call works on it
		for w := range s {
			out[w] = true
		}
	}
	return out
}

// explain returns the states after calls that were made at once: those to which some order of them leads. None: no order explains
// all the answers.
func explain(before worlds, calls []flying) worlds {
	if len(calls) == 0 {
		return before
	}
	out := worlds{}
	for i := range calls {
		next := calls[i].next(before)
		if len(next) == 0 {
			continue
		}
		rest := append(append([]flying{}, calls[:i]...), calls[i+1:]...)
		for w := range explain(next, rest) {
			out[w] = true
		}
	}
	return out
}

// together are calls that a broken orchestrator might make at once.
func (c *caller) together(o *object, random *rand.Rand) []request {
	sets := [][]request{
		{c.createVolume(o.twin()), c.createVolume(o.twin()), c.validate(o)},
		{c.remove(o), c.remove(o)},
		{c.expand(o.twin(), random), c.expand(o.twin(), random), c.validate(o)},
		{c.stage(o), c.stage(o)},
		{c.publish(o), c.publish(o), c.stats(o)},
		{c.unpublish(o), c.unstage(o)},
		{c.unstage(o), c.publish(o)},
		{c.remove(o), c.stage(o), c.publish(o)},
		{c.remove(o), c.expand(o.twin(), random)},
		{c.expand(o.twin(), random), c.publish(o), c.nodeExpand(o)},
		{c.detach(o), c.unstage(o), c.unpublish(o)},
		{c.modify(o, random), c.modify(o, random), c.get(o)},
		{c.remove(o), c.modify(o, random)},
	}
	return sets[random.IntN(len(sets))]
}

// twin is an object whose volume takes the answers of a call in place of the original's.
func (o *object) twin() *object {
	twin, v := *o, *o.volume
	twin.volume = &v
	return &twin
}

// burst makes several calls about one volume at once. There must be an order in which their answers make sense; any may be told to
// come again.
func (c *caller) burst(ctx context.Context, o *object, random *rand.Rand) error {
	epoch, err := c.reaper.begin(ctx)
	if err != nil {
		return err
	}
	before := o.worlds
	var calls []flying
	for _, q := range c.together(o, random) {
		calls = append(calls, flying{request: q, move: q.move()})
	}
	o.inherit()
	var all errgroup.Group
	if len(c.callers) == 1 { // whose storm must not depend on who comes first
		all.SetLimit(1)
	}
	for i := range calls {
		all.Go(func() error { calls[i].err = calls[i].request.call(ctx); return nil })
	}
	_ = all.Wait() // each call keeps its own error
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lost := false
	for i, f := range calls {
		c.calls++
		disturbed := c.reaper.disturbed(epoch, f.err)
		calls[i].lost = excused(status.Code(f.err)) && (disturbed || o.open() || c.copied(o))
		c.note(o, f.move, f.err, disturbed, true) // the order is chance
		if calls[i].lost {
			lost, o.pending = true, &calls[i].request
		}
	}
	next := explain(before, calls)
	if len(next) == 0 {
		text := ""
		for _, f := range calls {
			text += fmt.Sprintf("\n%s: %v", f.move.name, f.err)
		}
		return fmt.Errorf("caller %d, call %d: no order of these calls about %s, which may be %v, explains the answers:%s",
			c.number, c.calls, o.name, before, text)
	}
	c.become(o, next, slices.ContainsFunc(calls, func(f flying) bool { return f.move.makes }), lost)
	return nil
}

// codeError is an answer of that code.
func codeError(code codes.Code) error { return status.Error(code, "as if") }
