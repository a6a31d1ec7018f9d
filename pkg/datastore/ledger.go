package datastore

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Ledger counts what is promised from one pool: bytes, and volumes. Both volumes and snapshots hold bytes,
// each under its Volume.Key. All methods may be called concurrently.
type Ledger struct {
	mu      sync.Mutex
	held    map[string]int64
	total   int64
	volumes int
}

// Limits bound what may be promised.
type Limits struct {
	// Bytes in all. MaxVolumes bounds volumes, not snapshots; 0 is no bound.
	Bytes      int64
	MaxVolumes int32
}

// Reserve promises bytes to a key, in place of what it was promised before, if that stays within the
// limits. Otherwise it is fault.Exhausted and nothing changes. A promise that is not raised is never
// refused.
func (l *Ledger) Reserve(key string, bytes int64, limits Limits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.held[key]
	if bytes > old || !known {
		if free := limits.Bytes - l.total + old; bytes > free {
			return fault.New(fault.Exhausted, "%s asked for, %s of %s can still be promised", size(bytes), size(max(0, free)), size(limits.Bytes))
		}
		if !known && !IsSnapshot(key) && limits.MaxVolumes > 0 && l.volumes >= int(limits.MaxVolumes) {
			return fault.New(fault.Exhausted, "it has %d volumes, which is its limit (maxVolumes)", l.volumes)
		}
	}
	l.set(key, bytes)
	return nil
}

// Set records what a key was promised, whatever the limits.
func (l *Ledger) Set(key string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(key, bytes)
}

func (l *Ledger) set(key string, bytes int64) {
	if l.held == nil {
		l.held = map[string]int64{}
	}
	old, known := l.held[key]
	if !known && !IsSnapshot(key) {
		l.volumes++
	}
	l.total += bytes - old
	l.held[key] = bytes
}

// Release takes a key's promise back.
func (l *Ledger) Release(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.held[key]
	if known && !IsSnapshot(key) {
		l.volumes--
	}
	l.total -= old
	delete(l.held, key)
}

// Held returns what a key is promised.
func (l *Ledger) Held(key string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[key]
}

// Promised returns the bytes that are promised, and the number of volumes among the keys.
func (l *Ledger) Promised() (bytes int64, volumes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, l.volumes
}

// size writes bytes exactly, in the largest unit that divides them.
func size(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
