package controller

import (
	"context"
	"math"
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
}

type poolKey struct{ datastore, host string }

// New returns a controller. Start must be called before it serves.
func New(c Config) *Controller {
	return &Controller{config: c, promised: map[poolKey]*datastore.Ledger{}, attached: map[string]*datastore.Ledger{}}
}

// Start counts what the records promise, and finishes what a controller that died left half done.
func (c *Controller) Start(ctx context.Context) error {
	ctx = step.WithHook(ctx, c.config.Hook)
	volumes, err := c.config.Store.Volumes.List(ctx)
	if err != nil {
		return fault.Wrap(err, "start", "the controller")
	}
	for _, v := range volumes {
		c.account(v.Name, v)
	}
	for _, v := range volumes {
		if p := v.Status.Worker.Phase; p == v1alpha1.Deleted || p == v1alpha1.Rejected {
			if err := c.remove(step.WithVolume(ctx, v.Name), v); err != nil {
				klog.FromContext(ctx).Error(err, "Removing the record of a finished volume failed", "volume", v.Name)
			}
		}
	}
	return nil
}

// Run keeps the accounts and the datastores' status up to date until ctx ends, and returns an error only
// where the store fails.
func (c *Controller) Run(ctx context.Context) error {
	ctx = step.WithHook(ctx, c.config.Hook)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.watchVolumes(ctx) })
	group.Go(func() error { return c.watchStatus(ctx) })
	err := group.Wait()
	if ctx.Err() != nil && fault.Is(err, fault.Unavailable) {
		return nil
	}
	return err
}

// watchVolumes follows records that somebody else changed.
func (c *Controller) watchVolumes(ctx context.Context) error {
	watch, err := c.config.Store.Volumes.Watch(ctx, "")
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		event, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		c.account(event.Name, event.Record)
	}
}

// account counts what a record promises, to its pool and to the hosts that it is attached to.
func (c *Controller) account(id string, v *v1alpha1.DatastoreVolume) {
	var pool *datastore.Ledger
	if v != nil && v.Status.Worker.Phase != v1alpha1.Deleted && v.Status.Worker.Phase != v1alpha1.Rejected {
		pool = c.ledger(poolKey{v.Spec.Datastore, v.Spec.Worker.Host})
		pool.Set(id, max(v.Spec.Size.Value(), v.Status.Worker.Size.Value()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.promised {
		if l != pool {
			l.Release(id)
		}
	}
	for host, l := range c.attached {
		if v == nil || !attachedTo(v, host) {
			l.Release(id)
		}
	}
	if v != nil {
		for host := range v.Spec.Attachments {
			c.hostLedger(host).Set(id, 0)
		}
	}
}

func attachedTo(v *v1alpha1.DatastoreVolume, host string) bool {
	_, ok := v.Spec.Attachments[host]
	return ok
}

func (c *Controller) ledger(k poolKey) *datastore.Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.promised[k]
	if l == nil {
		l = &datastore.Ledger{}
		c.promised[k] = l
	}
	return l
}

// hostLedger counts the volumes attached to a host. The lock is held.
func (c *Controller) hostLedger(host string) *datastore.Ledger {
	l := c.attached[host]
	if l == nil {
		l = &datastore.Ledger{}
		c.attached[host] = l
	}
	return l
}

// reserve takes room for a volume on a pool, so that two calls at once cannot both have the last of it.
func (c *Controller) reserve(id string, f fit) error {
	return c.ledger(poolKey{f.datastore.Name, f.host}).Reserve(id, f.bytes, datastore.Limits{
		Bytes: f.pool.Promisable.Value(), MaxVolumes: f.datastore.Spec.Capacity.MaxVolumes,
	})
}

// reserveAttachment counts a volume to a host that may use no more than so many.
func (c *Controller) reserveAttachment(id, host string, limit int64) error {
	c.mu.Lock()
	l := c.hostLedger(host)
	c.mu.Unlock()
	if l.Reserve(id, 0, datastore.Limits{Bytes: math.MaxInt64, MaxVolumes: int32(min(limit, math.MaxInt32))}) != nil {
		_, volumes := l.Promised()
		return fault.New(fault.Exhausted, "host %q uses %d volumes already, its limit is %d; unpublish one first", host, volumes, limit)
	}
	return nil
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
