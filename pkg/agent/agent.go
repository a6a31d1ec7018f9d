// Package agent makes its host's storage match the records: it creates, grows and deletes the volumes
// whose worker its host is, and reports what its pools have.
package agent

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Config is what an agent needs.
type Config struct {
	Host, MachineID, BootID string
	Store                   *store.Store
	Set                     *datastore.Set
	// Workers a datastore.
	Workers int
	// Observe is told of each piece of work: "create", "expand", "delete", "reclaim"; the kind of fault
	// that it ended with, or "ok"; how long it took.
	Observe func(operation, result string, took time.Duration)
	Now     func() time.Time
	// Hook stands in the context of all work; nil in the shipped binary.
	Hook step.Hook
}

// Agent is the worker of its host. Its methods may be called concurrently.
type Agent struct {
	config Config
	queue  *Queue

	reporting  sync.Mutex
	mu         sync.Mutex
	ledgers    map[string]*datastore.Ledger
	datastores map[string]bool // those with a record
	reported   v1alpha1.DatastoreHostStatus
}

// stopPatience is how long a stopping agent waits for work that is under way.
const stopPatience = 5 * time.Second

// New returns an agent. Start must be called before Run.
func New(c Config) *Agent {
	return &Agent{config: c, ledgers: map[string]*datastore.Ledger{}, datastores: map[string]bool{}}
}

// Start reads the records, opens the host's pools and waits for their first measurement, so that what
// follows finds them; a pool that hangs is not waited for longer than the set's patience. Pools and work
// live until ctx ends.
func (a *Agent) Start(ctx context.Context) error {
	ctx = step.WithHook(ctx, a.config.Hook)
	a.queue = NewQueue(ctx, a.config.Workers, a.handle)
	if err := a.loadHost(ctx); err != nil {
		return fault.Wrap(err, "start the agent of host", a.config.Host)
	}
	volumes, err := a.config.Store.Volumes.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.Spec.Worker.Host == a.config.Host && holdsSpace(v) {
			a.ledger(v.Spec.Datastore).Set(v.Name, promised(v))
		}
	}
	datastores, err := a.config.Store.Datastores.List(ctx)
	if err != nil {
		return err
	}
	for _, d := range datastores {
		a.applyDatastore(ctx, d.Name, d)
	}
	a.config.Set.Settle(ctx)
	return a.report(ctx)
}

// Run works until ctx ends, and returns an error only where the store fails.
func (a *Agent) Run(ctx context.Context) error {
	ctx = step.WithHook(ctx, a.config.Hook)
	defer func() {
		// ctx has ended; what is under way has its own.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		a.queue.Stop(stop)
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.watchDatastores(ctx) })
	group.Go(func() error { return a.watchVolumes(ctx) })
	group.Go(func() error { return a.watchPools(ctx) })
	err := group.Wait()
	if ctx.Err() != nil && fault.Is(err, fault.Unavailable) {
		return nil
	}
	return err
}

// QueueLength returns how much work waits, runs or backs off, once the agent has started.
func (a *Agent) QueueLength() int { return a.queue.Length() }

func (a *Agent) watchDatastores(ctx context.Context) error {
	return each(ctx, a.config.Store.Datastores, func(e store.Event[v1alpha1.Datastore]) {
		a.applyDatastore(ctx, e.Name, e.Record)
	})
}

func (a *Agent) applyDatastore(ctx context.Context, name string, d *v1alpha1.Datastore) {
	a.mu.Lock()
	uuid := a.reported.Pools[name].UUID
	if d == nil {
		delete(a.datastores, name)
	} else {
		a.datastores[name] = true
	}
	a.mu.Unlock()
	if d == nil {
		a.config.Set.Remove(name)
		return
	}
	d = d.DeepCopy()
	d.SetDefaults()
	a.config.Set.Apply(ctx, d, uuid)
	a.queue.Add(name, reclaimKey(name))
}

func (a *Agent) watchVolumes(ctx context.Context) error {
	// An intent is added once: the queue itself comes back to what failed, and writing down a failure
	// must not end its back-off.
	type intent struct {
		uid        types.UID
		generation int64
	}
	added := map[string]intent{}
	return each(ctx, a.config.Store.Volumes, func(e store.Event[v1alpha1.DatastoreVolume]) {
		if e.Record == nil {
			delete(added, e.Name)
			a.forget(e.Name)
			return
		}
		now := intent{e.Record.UID, e.Record.Generation}
		if e.Record.Spec.Worker.Host == a.config.Host && wantsWork(e.Record) && added[e.Name] != now {
			added[e.Name] = now
			a.queue.Add(e.Record.Spec.Datastore, e.Name)
		}
	})
}

// each calls handle for every event of a table until ctx ends.
func each[T any](ctx context.Context, t store.Table[T], handle func(store.Event[T])) error {
	watch, err := t.Watch(ctx, "")
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		event, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		handle(event)
	}
}

func (a *Agent) ledger(name string) *datastore.Ledger {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.ledgers[name]
	if l == nil {
		l = &datastore.Ledger{}
		a.ledgers[name] = l
	}
	return l
}

// forget takes back what a volume was promised whose record is gone.
func (a *Agent) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.ledgers {
		l.Release(id)
	}
}

func (a *Agent) observe(operation string, began time.Time, err error) {
	result := "ok"
	if err != nil {
		result = fault.KindOf(err).String()
	}
	if a.config.Observe != nil {
		a.config.Observe(operation, result, a.config.Now().Sub(began))
	}
}

func logger(ctx context.Context) klog.Logger { return klog.FromContext(ctx).WithName("agent") }
