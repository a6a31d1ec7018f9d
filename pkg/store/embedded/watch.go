package embedded

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// watch implements store.Watch. It has no goroutine: Next looks up what its queue names.
type watch[T any, P store.Record[T]] struct {
	table *table[T, P]
	queue *queue
}

// Watch implements store.Table. It never lags, and tells of the record first that changed first.
func (t *table[T, P]) Watch(ctx context.Context, name string) (store.Watch[T], error) {
	if err := ctx.Err(); err != nil {
		return nil, t.failed(err, "watch", name)
	}
	if name != "" {
		if err := checkName(name); err != nil {
			return nil, t.failed(err, "watch", name)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records == nil {
		return nil, t.failed(errClosed(t.db.config.Path), "watch", name)
	}
	q := newQueue(name)
	t.queues.insert(q)
	if name == "" {
		for _, record := range t.sorted {
			q.add(P(record).GetName())
		}
	} else if _, ok := t.records[name]; ok {
		q.add(name)
	}
	return &watch[T, P]{table: t, queue: q}, nil
}

// Next implements store.Watch.
func (w *watch[T, P]) Next(ctx context.Context) (store.Event[T], error) {
	t, q := w.table, w.queue
	for {
		if err := ctx.Err(); err != nil {
			return store.Event[T]{}, t.failed(err, "watch", q.only)
		}
		if event, ok, err := w.pending(); ok || err != nil {
			return event, t.failed(err, "watch", q.only)
		}
		select {
		case <-q.wake:
		case <-q.ended:
		case <-ctx.Done():
		}
	}
}

// pending returns the next event, if there is one now.
func (w *watch[T, P]) pending() (event store.Event[T], ok bool, err error) {
	t := w.table
	// The name is taken under the lock that writes are published under: a change after it queues the
	// name again.
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return event, false, errClosed(t.db.config.Path)
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
func (w *watch[T, P]) Close() {
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	w.table.queues.remove(w.queue)
	w.queue.close()
}
