package driver

import (
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// inFlight lets one call at a time work on a volume or snapshot. A second one is told to try again at once.
type inFlight struct {
	mu   sync.Mutex
	keys map[string]bool
}

func newInFlight() *inFlight { return &inFlight{keys: map[string]bool{}} }

// hold returns a function that ends the call, or ABORTED. The key tells a volume from a snapshot of the same ID.
func (f *inFlight) hold(key string) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys[key] {
		what := "volume"
		id, isSnapshot := datastore.ParseKey(key)
		if isSnapshot {
			what = "snapshot"
		}
		return nil, answer(fault.New(fault.Busy, "%s %.128q: another call works on it; try again", what, id))
	}
	f.keys[key] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.keys, key)
	}, nil
}
