package controller

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Config is what a controller needs.
type Config struct {
	ClusterID string
	Store     *store.Store
	Types     []datastore.Type
	Now       func() time.Time
	NewUUID   func() string
	// Wake has a worker in this process try failed work on a volume or snapshot again now, by its key
	// (datastore.Volume.Key), rather than after its back-off. It may be nil.
	Wake func(key string)
	// HoldDatastores keeps a datastore whose record is deleted, as anybody may do in Kubernetes, until nothing is recorded on
	// it any more.
	HoldDatastores bool
	// Hook stands in the context of the controller's own loops; nil in the shipped binary.
	Hook step.Hook
}

// Controller serves requests. Its methods may be called concurrently; calls about one volume must not be,
// since the second would only wait for what the first one does.
type Controller struct {
	config Config

	mu sync.Mutex
	// promised is what is promised of each pool; attached are the volumes that each host may use.
	promised map[poolKey]*datastore.Ledger
	attached map[string]*datastore.Ledger

	copies *copies
}

type poolKey struct{ datastore, host string }

// New returns a controller. Start must be called before it serves.
func New(c Config) *Controller {
	return &Controller{
		config: c, promised: map[poolKey]*datastore.Ledger{}, attached: map[string]*datastore.Ledger{}, copies: newCopies(),
	}
}

// Start counts what the records promise, and finishes what a controller that died left half done.
func (c *Controller) Start(ctx context.Context) error {
	ctx = step.WithHook(ctx, c.config.Hook)
	volumes, err := c.config.Store.Volumes.List(ctx)
	if err != nil {
		return fault.Wrap(err, "start", "the controller")
	}
	snapshots, err := c.config.Store.Snapshots.List(ctx)
	if err != nil {
		return fault.Wrap(err, "start", "the controller")
	}
	for _, v := range volumes {
		c.account(v.Name, v)
	}
	for _, s := range snapshots {
		c.accountSnapshot(s.Name, s)
	}
	for _, v := range volumes {
		if finished(v.Status.Worker) {
			logRemoval(ctx, v.Name, c.remove(step.WithVolume(ctx, v.Name), v))
		}
	}
	for _, s := range snapshots {
		if finished(s.Status.Worker) {
			logRemoval(ctx, s.Name, c.removeSnapshot(step.WithVolume(ctx, snapshotKey(s.Name)), s))
		}
	}
	return nil
}

func logRemoval(ctx context.Context, name string, err error) {
	if err != nil {
		klog.FromContext(ctx).Error(err, "Removing a record that is done with failed", "name", name)
	}
}

// Run is Follow and Lead, for a controller that is the only one.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.Follow(ctx) })
	group.Go(func() error { return c.Lead(ctx) })
	return group.Wait()
}

// Follow keeps the accounts up to date until ctx ends, as every controller that serves must, and returns an error only
// where the store fails.
func (c *Controller) Follow(ctx context.Context) error {
	ctx = step.WithHook(ctx, c.config.Hook)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return store.Each(ctx, c.config.Store.Volumes, "", func(e store.Event[v1alpha1.DatastoreVolume]) { c.account(e.Name, e.Record) })
	})
	group.Go(func() error {
		return store.Each(ctx, c.config.Store.Snapshots, "", func(e store.Event[v1alpha1.DatastoreSnapshot]) { c.accountSnapshot(e.Name, e.Record) })
	})
	err := group.Wait()
	if ctx.Err() != nil && fault.Is(err, fault.Unavailable) {
		return nil
	}
	return err
}

// Lead does until ctx ends what one controller at a time does for the cluster: it keeps the datastores' status up to
// date.
func (c *Controller) Lead(ctx context.Context) error {
	return c.watchStatus(step.WithHook(ctx, c.config.Hook))
}

func (c *Controller) capabilities(d *v1alpha1.Datastore) (datastore.Capabilities, bool) {
	for _, t := range c.config.Types {
		if t.Name == d.Spec.Type {
			return t.Capabilities(d.Spec), true
		}
	}
	return datastore.Capabilities{}, false
}

// unreported stands for the pool of a datastore that no host has.
func unreported(d *v1alpha1.Datastore) v1alpha1.PoolStatus {
	where := "any host"
	if len(d.Spec.Hosts) > 0 {
		where = strings.Join(d.Spec.Hosts, ", ")
	}
	return v1alpha1.PoolStatus{Health: v1alpha1.Unavailable, Findings: []v1alpha1.Finding{{
		Reason: "NotReported", Message: "no host has reported a pool of it; it is for " + where + " (spec.hosts): is the driver running there?",
	}}}
}

// candidates are the pools of the datastores that parameters name.
func (c *Controller) candidates(ctx context.Context, p parameters) ([]candidate, error) {
	datastores, err := c.named(ctx, p)
	if err != nil {
		return nil, err
	}
	hosts, err := c.config.Store.Hosts.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, d := range datastores {
		capabilities, ok := c.capabilities(d)
		if !ok {
			continue
		}
		found := len(out)
		for _, h := range hosts {
			pool, ok := h.Status.Pools[d.Name]
			if !ok {
				continue
			}
			promised, volumes := c.ledger(poolKey{d.Name, h.Name}).Promised()
			out = append(out, candidate{
				datastore: d, host: h.Name, pool: pool, capabilities: capabilities, promised: promised, volumes: volumes,
			})
		}
		if len(out) == found {
			out = append(out, candidate{datastore: d, capabilities: capabilities, pool: unreported(d)})
		}
	}
	return out, nil
}
