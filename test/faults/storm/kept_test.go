package storm

import (
	"fmt"
	"sync"

	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	retain  = "retain"
	archive = "archive"
)

// kept counts the deleted volumes whose bytes stay on the storage, by what was asked for. Where a call was lost it may not be known
// what became of a volume: such are counted as possible.
type kept struct {
	mu             sync.Mutex
	sure, possible map[string]int
}

// count looks at what became of a volume by a call, which may have made it (anew). It returns the states after it, in which what was counted
// is forgotten.
func (k *kept) count(before, next worlds, made bool) worlds {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sure == nil {
		k.sure, k.possible = map[string]int{}, map[string]int{}
	}
	ended := map[string]bool{} // how it may have ended
	if made {
		for w := range before.drift() {
			ended[w.end] = ended[w.end] || w.phase == absent
		}
		for end, is := range ended {
			if is && end != "" {
				k.possible[end]++
			}
		}
		return next.forgotten()
	}
	if next.some(func(w world) bool { return w.phase != absent }) {
		return next
	}
	for w := range next {
		ended[w.end] = true
	}
	for end := range ended {
		switch {
		case end == "":
		case len(ended) == 1:
			k.sure[end]++
		default:
			k.possible[end]++
		}
	}
	return next.forgotten()
}

// forgotten are the states without how a volume that is gone ended.
func (s worlds) forgotten() worlds {
	out := worlds{}
	for w := range s {
		if w.phase == absent {
			w.end = ""
		}
		out[w] = true
	}
	return out
}

// explains tells whether so many can have been kept.
func (k *kept) explains(end string, there int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return there >= k.sure[end] && there <= k.sure[end]+k.possible[end]
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprintf("%d retained and %d archived (or up to %d and %d more)", k.sure[retain], k.sure[archive], k.possible[retain], k.possible[archive])
}

// sweep removes what was kept, as an administrator does.
func (k *kept) sweep(storage rows.Storage) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sure, k.possible = map[string]int{}, map[string]int{}
	return storage.Sweep()
}
