package kube

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// mirror keeps a table's memory up to date once it is started. It implements cache.ReflectorStore.
type mirror[T any, P object[T]] struct {
	table *table[T, P]
	// start runs a function until the store is closed.
	start func(func(context.Context))
	once  sync.Once
	// synced is closed when memory has the first whole list.
	synced chan struct{}

	mu sync.Mutex
	// failed is why the API server was last not listed or watched; nil after it was.
	failed error
}

// ready starts the mirror, if nobody did, and waits for the first whole list.
func (m *mirror[T, P]) ready(ctx context.Context) error {
	m.begin()
	select {
	case <-m.synced:
		return nil
	default:
	}
	select {
	case <-m.synced:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return fault.New(fault.Unavailable, "%w: the API server was not read yet: %w", ctx.Err(), m.failed)
	}
	return ctx.Err()
}

// begin starts the mirror, if nobody did.
func (m *mirror[T, P]) begin() { m.once.Do(func() { m.start(m.run) }) }

// run lists and watches until ctx ends. The reflector comes back to what failed, at most every 30 s.
func (m *mirror[T, P]) run(ctx context.Context) {
	log := klog.FromContext(ctx)
	lists := cache.NewFilteredListWatchFromClient(m.table.client, m.table.kind.Resource, metav1.NamespaceAll,
		func(o *metav1.ListOptions) { o.FieldSelector = m.table.selector.String() })
	noting := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			found, err := lists.ListWithContext(ctx, o)
			return found, m.note(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := lists.WatchWithContext(ctx, o)
			return w, m.note(ctx, err)
		},
	}
	cache.NewReflectorWithOptions(noting, P(new(T)), m, cache.ReflectorOptions{Name: m.table.kind.Resource, Logger: &log}).RunWithContext(ctx)
}

func (m *mirror[T, P]) note(ctx context.Context, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = translate(ctx, m.table.kind.Resource, err)
	return err
}

// Add implements cache.ReflectorStore.
func (m *mirror[T, P]) Add(obj any) error { return m.put(obj) }

// Update implements cache.ReflectorStore.
func (m *mirror[T, P]) Update(obj any) error { return m.put(obj) }

func (m *mirror[T, P]) put(obj any) error {
	r, err := m.finished(obj)
	if err == nil {
		m.table.Put(func(string) *T { return r }, P(r).GetName())
	}
	return err
}

// Delete implements cache.ReflectorStore. A record that left the table's selector is deleted, too.
func (m *mirror[T, P]) Delete(obj any) error {
	r, err := m.finished(obj)
	if err == nil {
		m.table.Put(func(string) *T { return nil }, P(r).GetName())
	}
	return err
}

// Replace implements cache.ReflectorStore.
func (m *mirror[T, P]) Replace(all []any, _ string) error {
	records := make([]*T, 0, len(all))
	for _, obj := range all {
		r, err := m.finished(obj)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	m.table.Table.Replace(records)
	select {
	case <-m.synced:
	default:
		close(m.synced) // the reflector calls from one goroutine
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (m *mirror[T, P]) Resync() error { return nil }

func (m *mirror[T, P]) finished(obj any) (*T, error) {
	r, ok := obj.(P)
	if !ok {
		return nil, fmt.Errorf("a %T came in a list of %s", obj, m.table.kind.Resource)
	}
	return m.table.finish((*T)(r)), nil
}

// List implements store.Table. It waits for the first whole list of the API server.
func (t *table[T, P]) List(ctx context.Context) ([]*T, error) {
	if err := t.mirror.ready(ctx); err != nil {
		return nil, t.Failed(err, "list", "")
	}
	return t.Table.List(ctx)
}

// Watch implements store.Table.
func (t *table[T, P]) Watch(ctx context.Context, name string) (store.Watch[T], error) {
	// The watch is opened first: it is told of the first whole list.
	w, err := t.Table.Watch(ctx, name)
	if err == nil {
		t.mirror.begin()
	}
	return w, err
}
