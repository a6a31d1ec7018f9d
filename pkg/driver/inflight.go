package driver

import (
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// inFlight lets one call at a time work on a volume or snapshot. A second one is told to try again at once.
type inFlight struct {
	mu  sync.Mutex
	ids map[string]bool
}

func newInFlight() *inFlight { return &inFlight{ids: map[string]bool{}} }

// hold returns a function that ends the call, or ABORTED.
func (f *inFlight) hold(id string) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids[id] {
		return nil, answer(fault.New(fault.Busy, "%.128q: another call works on it; try again", id))
	}
	f.ids[id] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.ids, id)
	}, nil
}
