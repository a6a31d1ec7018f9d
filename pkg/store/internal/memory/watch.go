package memory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// Watch implements store.Watch. It has no goroutine: Next looks up what its queue names.
type Watch[T any, P store.Record[T]] struct {
	table *Table[T, P]
	queue *queue
}

// Watch implements store.Table. It never lags behind the table, and tells of the record first that changed first.
func (t *Table[T, P]) Watch(ctx context.Context, name string) (store.Watch[T], error) {
	if err := ctx.Err(); err != nil {
		return nil, t.Failed(err, "watch", name)
	}
	if name != "" {
		if err := record.CheckName(name); err != nil {
			return nil, t.Failed(err, "watch", name)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records == nil {
		return nil, t.Failed(t.closed(), "watch", name)
	}
	q := newQueue(name)
	t.queues.insert(q)
	if name == "" {
		for _, r := range t.sorted {
			q.add(P(r).GetName())
		}
	} else if _, ok := t.records[name]; ok {
		q.add(name)
	}
	return &Watch[T, P]{table: t, queue: q}, nil
}

// Next implements store.Watch.
func (w *Watch[T, P]) Next(ctx context.Context) (store.Event[T], error) {
	t, q := w.table, w.queue
	for {
		if err := ctx.Err(); err != nil {
			return store.Event[T]{}, t.Failed(err, "watch", q.only)
		}
		if event, ok, err := w.Pending(); ok || err != nil {
			return event, t.Failed(err, "watch", q.only)
		}
		select {
		case <-q.wake:
		case <-q.ended:
		case <-ctx.Done():
		}
	}
}

// Pending returns the next event, if there is one now.
func (w *Watch[T, P]) Pending() (event store.Event[T], ok bool, err error) {
	t := w.table
	// The name is taken under the lock that records are put in under: a change after it queues the name again.
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return event, false, t.closed()
	}
	select {
	case <-w.queue.ended:
		return event, false, fault.New(fault.Unavailable, "the watch was closed")
	default:
	}
	name, ok := w.queue.take()
	if !ok {
		return event, false, nil
	}
	return store.Event[T]{Name: name, Record: t.records[name]}, true, nil
}

// Close implements store.Watch.
func (w *Watch[T, P]) Close() {
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	w.table.queues.remove(w.queue)
	w.queue.close()
}
