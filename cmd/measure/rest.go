package measure

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// restAfter is how long no volume may have been worked on before memory is given back.
const restAfter = 5 * time.Second

// Rest gives the kernel back what work on volumes took of memory once there is none: the runtime itself does so in minutes,
// and a driver does nothing for most of its life.
type Rest struct {
	worked atomic.Bool
	paid   bool // since the last work; only run uses it
}

// Note tells that there was work. It may be called concurrently.
func (r *Rest) Note() { r.worked.Store(true) }

// Run gives memory back each time that work has ended, and once after the start, until ctx ends.
func (r *Rest) Run(ctx context.Context) error {
	tick := time.NewTicker(restAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.due() {
			debug.FreeOSMemory()
		}
	}
}

// due tells whether there was no work since it was last asked, but some before that.
func (r *Rest) due() bool {
	if r.worked.Swap(false) {
		r.paid = false
		return false
	}
	due := !r.paid
	r.paid = true
	return due
}
