package command

import (
	"context"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Await calls f, which may block in the kernel (a read from a device whose path is dead), and returns
// what f returns, or fault.Unavailable when the context ends first. f then goes on by itself and what it
// returns is dropped, so it must hold everything that it uses: it opens and closes its own files, and
// shares no variable with the caller. Such calls count as stuck runs of what, and are bounded like those
// of a tool. A context without a deadline gets DefaultTimeout.
func Await[T any](ctx context.Context, r *Runner, what string, f func(context.Context) (T, error)) (T, error) {
	var none T
	if err := r.admit(what); err != nil {
		return none, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	var wait straggler
	go func() {
		value, err := f(ctx)
		wait.end(func() { done <- answer{value, err} })
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(killGrace) // for an f that heeds its context
	defer grace.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-grace.C:
		wait.abandon(func() { r.addStuck(what, 1) }, func() { r.addStuck(what, -1) })
		return none, fault.New(fault.Unavailable, "%s did not end in time and is held by the kernel: %w", what, ctx.Err())
	}
}

// bounded gives a context a deadline if it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// straggler joins the end of a goroutine with the leaving of the one that waits for it: whichever
// comes second knows of the first.
type straggler struct {
	mu    sync.Mutex
	ended bool
	later func()
}

// end is called once by the goroutine at its end; tell passes its result on and must not block.
func (s *straggler) end(tell func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	tell()
	if s.later != nil {
		s.later()
	}
}

// abandon calls now, and later when the goroutine ends; neither where it has ended already.
func (s *straggler) abandon(now, later func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	now()
	s.later = later
}
