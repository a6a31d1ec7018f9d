// Package agent makes its host's storage match the records: it creates, grows, copies and deletes the
// volumes and snapshots whose worker its host is, and reports what its pools have.
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
	// Version of the driver, for the host's record.
	Version string
	Store   *store.Store
	Set     *datastore.Set
	// Workers a datastore.
	Workers int
	// Quiesce calls take while the volume of that ID is at rest, where it is mounted on this host. It may be
	// nil: snapshots are whole without it, but need the file system's log.
	Quiesce func(ctx context.Context, volume string, take func(context.Context) error) error
	// AuditEvery is how often what lies on a pool is compared with the records, beside the start and each
	// change of the datastore; 0 is never.
	AuditEvery time.Duration
	// Observe is told of each piece of work: "create", "copy", "snapshot", "expand", "modify", "delete",
	// "reclaim", "audit"; the kind of fault that it ended with, or "ok"; how long it took.
	Observe func(operation, result string, took time.Duration)
	Now     func() time.Time
	// Hook stands in the context of all work; nil in the shipped binary.
	Hook step.Hook
}

// Agent is the worker of its host. Its methods may be called concurrently.
type Agent struct {
	config Config
	queue  *Queue
	// volumes and snapshots are the tables of what lies on pools.
	volumes, snapshots records

	reporting sync.Mutex
	// choosing lets one volume at a time be given its place.
	choosing sync.Mutex

	mu         sync.Mutex
	ledgers    map[string]*datastore.Ledger
	datastores map[string]bool // those with a record
	reported   v1alpha1.DatastoreHostStatus
	copies     map[string]context.CancelCauseFunc // those under way, by key
	audits     map[string]chan struct{}           // closed after a datastore's first one
	known      map[string]bool                    // pools that had no orphans when they were last reported
}

// stopPatience is how long a stopping agent waits for work that is under way.
const stopPatience = 5 * time.Second

// New returns an agent. Start must be called before Run.
func New(c Config) *Agent {
	return &Agent{
		config: c, volumes: volumesOf(c.Store.Volumes), snapshots: snapshotsOf(c.Store.Snapshots),
		ledgers: map[string]*datastore.Ledger{}, datastores: map[string]bool{}, copies: map[string]context.CancelCauseFunc{},
		audits: map[string]chan struct{}{}, known: map[string]bool{},
	}
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
	ours, err := a.subjects(ctx)
	if err != nil {
		return err
	}
	for _, s := range ours {
		if s.holdsSpace() {
			a.ledger(s.on).Set(s.Key(), s.promised())
		}
	}
	datastores, err := a.config.Store.Datastores.List(ctx)
	if err != nil {
		return err
	}
	for _, d := range datastores {
		a.applyDatastore(ctx, d.Name, d)
	}
	a.config.Set.Tidy(ctx)
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
	for _, table := range a.tables() {
		group.Go(func() error { return a.watchRecords(ctx, table) })
	}
	group.Go(func() error { return a.watchPools(ctx) })
	group.Go(func() error { return a.auditAll(ctx) })
	err := group.Wait()
	if ctx.Err() != nil && fault.Is(err, fault.Unavailable) {
		return nil
	}
	return err
}

// QueueLength returns how much work waits, runs or backs off, once the agent has started.
func (a *Agent) QueueLength() int { return a.queue.Length() }

func (a *Agent) watchDatastores(ctx context.Context) error {
	return store.Each(ctx, a.config.Store.Datastores, "", func(e store.Event[v1alpha1.Datastore]) {
		a.applyDatastore(ctx, e.Name, e.Record)
		if e.Record != nil {
			a.AuditSoon(e.Name)
		}
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
	a.reclaimSoon(name)
}

func (a *Agent) tables() []records { return []records{a.volumes, a.snapshots} }

func (a *Agent) tableOf(snapshot bool) records {
	if snapshot {
		return a.snapshots
	}
	return a.volumes
}

// subjects returns the records whose worker this host is.
func (a *Agent) subjects(ctx context.Context) ([]*subject, error) {
	var out []*subject
	for _, table := range a.tables() {
		all, err := table.list(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.host == a.config.Host {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func (a *Agent) watchRecords(ctx context.Context, table records) error {
	// An intent is added once: the queue itself comes back to what failed, and writing down a failure
	// must not end its back-off.
	type intent struct {
		uid        types.UID
		generation int64
	}
	added := map[string]intent{}
	return table.watch(ctx, func(key string, s *subject) {
		if s == nil {
			delete(added, key)
			a.forget(key)
			a.auditOrphaned(key)
			return
		}
		now := intent{s.uid, s.generation}
		if s.host == a.config.Host && s.wantsWork() && added[key] != now {
			added[key] = now
			if s.deletion != nil {
				a.withdraw(key)
			}
			a.queue.Add(a.group(s), key)
		}
	})
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

// forget takes back what was promised to a key whose record is gone.
func (a *Agent) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.ledgers {
		l.Release(key)
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
