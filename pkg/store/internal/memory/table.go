// Package memory holds the records of one kind decoded, for a store to answer from, and tells watches of what
// changes.
package memory

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// Table holds the records of one kind. Its methods may be called concurrently. The records are shared and never
// altered: whoever puts one in has finished it (record.Finish).
type Table[T any, P store.Record[T]] struct {
	word   string
	closed func() error

	mu      sync.RWMutex
	records map[string]*T // nil once the table is closed
	sorted  []*T          // the same, by name
	queues  queues
}

// New returns an empty table. Errors name its records by word; closed makes the error of all that is asked for after
// Close.
func New[T any, P store.Record[T]](word string, closed func() error) *Table[T, P] {
	return &Table[T, P]{word: word, closed: closed, records: map[string]*T{}, queues: newQueues()}
}

// Get returns a record, or fault.NotFound.
func (t *Table[T, P]) Get(ctx context.Context, name string) (*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, t.Failed(err, "get", name)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return nil, t.Failed(t.closed(), "get", name)
	}
	if r, ok := t.records[name]; ok {
		return r, nil
	}
	if err := record.CheckName(name); err != nil {
		return nil, t.Failed(err, "get", name)
	}
	return nil, t.Failed(record.NotFound(), "get", name)
}

// List returns all records, sorted by name. The list is the caller's.
func (t *Table[T, P]) List(ctx context.Context) ([]*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, t.Failed(err, "list", "")
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return nil, t.Failed(t.closed(), "list", "")
	}
	return slices.Clone(t.sorted), nil
}

// Peek returns a record, or nil.
func (t *Table[T, P]) Peek(name string) *T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.records[name]
}

// Load replaces all records, which come sorted by name, and tells watches of nothing: there are none yet.
func (t *Table[T, P]) Load(sorted []*T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sorted = sorted
	t.records = make(map[string]*T, len(sorted))
	for _, r := range sorted {
		t.records[P(r).GetName()] = r
	}
}

// Put makes records of those names what is given, all at once; nil is a record that is gone. It has no effect once the
// table is closed.
func (t *Table[T, P]) Put(record func(name string) *T, names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records == nil {
		return
	}
	for _, name := range names {
		t.set(name, record(name))
		t.queues.changed(name)
	}
}

// Replace makes the records those that are given, in any order, and tells of every one that is new, another version or
// gone. Watches of a single record are told of it whatever became of it: it may have come and gone meanwhile.
func (t *Table[T, P]) Replace(records []*T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records == nil {
		return
	}
	before := t.records
	t.records = make(map[string]*T, len(records))
	t.sorted = slices.Clone(records)
	slices.SortFunc(t.sorted, func(a, b *T) int { return strings.Compare(P(a).GetName(), P(b).GetName()) })
	told := map[string]bool{}
	for _, r := range t.sorted {
		name := P(r).GetName()
		t.records[name] = r
		if old, ok := before[name]; !ok || P(old).GetResourceVersion() != P(r).GetResourceVersion() {
			told[name] = true
			t.queues.changed(name)
		}
	}
	for name := range before {
		if _, ok := t.records[name]; !ok {
			told[name] = true
			t.queues.changed(name)
		}
	}
	for name := range t.queues.byName {
		if !told[name] {
			t.queues.changed(name)
		}
	}
}

// set puts a record in, or takes it out where it is nil.
func (t *Table[T, P]) set(name string, r *T) {
	i, there := slices.BinarySearchFunc(t.sorted, name, func(r *T, name string) int {
		return strings.Compare(P(r).GetName(), name)
	})
	switch {
	case r == nil && there:
		t.sorted = slices.Delete(t.sorted, i, i+1)
	case r != nil && there:
		t.sorted[i] = r
	case r != nil:
		t.sorted = slices.Insert(t.sorted, i, r)
	}
	if r == nil {
		delete(t.records, name)
	} else {
		t.records[name] = r
	}
}

// Close empties the table and ends its watches.
func (t *Table[T, P]) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records, t.sorted = nil, nil
	t.queues.close()
}

// Failed names what was tried on which record. A nil error stays nil.
func (t *Table[T, P]) Failed(err error, verb, name string) error {
	if name == "" {
		return fault.Wrap(err, verb, t.word+" records")
	}
	return fault.Wrap(err, verb, t.word+" record "+record.Shown(name))
}
