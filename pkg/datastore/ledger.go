package datastore

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Ledger counts what is promised from one pool: bytes and volumes. All methods may be called
// concurrently.
type Ledger struct {
	mu    sync.Mutex
	held  map[string]int64
	total int64
}

// Limits bound what may be promised.
type Limits struct {
	// Bytes in all; MaxVolumes 0 is no bound.
	Bytes      int64
	MaxVolumes int32
}

// Reserve promises bytes to a volume, in place of what it was promised before, if that stays within the
// limits. Otherwise it is fault.Exhausted and nothing changes. A promise that is not raised is never
// refused.
func (l *Ledger) Reserve(id string, bytes int64, limits Limits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.held[id]
	if bytes > old || !known {
		if free := limits.Bytes - l.total + old; bytes > free {
			return fault.New(fault.Exhausted, "%s asked for, %s of %s can still be promised", size(bytes), size(max(0, free)), size(limits.Bytes))
		}
		if !known && limits.MaxVolumes > 0 && len(l.held) >= int(limits.MaxVolumes) {
			return fault.New(fault.Exhausted, "it has %d volumes, which is its limit (maxVolumes)", len(l.held))
		}
	}
	l.set(id, bytes)
	return nil
}

// Set records what a volume was promised, whatever the limits.
func (l *Ledger) Set(id string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(id, bytes)
}

func (l *Ledger) set(id string, bytes int64) {
	if l.held == nil {
		l.held = map[string]int64{}
	}
	l.total += bytes - l.held[id]
	l.held[id] = bytes
}

// Release takes a volume's promise back.
func (l *Ledger) Release(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= l.held[id]
	delete(l.held, id)
}

// Promised returns the bytes and the number of volumes that are promised.
func (l *Ledger) Promised() (bytes int64, volumes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, len(l.held)
}

// size writes bytes exactly, in the largest unit that divides them.
func size(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
