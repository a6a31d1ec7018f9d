package agent

import (
	"context"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// reportInterval bounds how long a pool that stopped answering goes unreported.
const reportInterval = 5 * time.Second

// maxOrphans bounds those that a host's record lists of a pool; the findings count them all.
const maxOrphans = 100

// loadHost reads this host's record, or makes it.
func (a *Agent) loadHost(ctx context.Context) error {
	host, err := a.config.Store.Hosts.Get(ctx, a.config.Host)
	if fault.Is(err, fault.NotFound) {
		host, err = a.config.Store.Hosts.Create(ctx, &v1alpha1.DatastoreHost{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreHost"},
			ObjectMeta: metav1.ObjectMeta{Name: a.config.Host},
			Status:     a.status(nil),
		})
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reported = host.Status
	for name, pool := range host.Status.Pools {
		a.known[name] = pool.UUID != "" && len(pool.Orphans) == 0
	}
	return nil
}

// watchPools reports whenever a pool's status may have changed.
func (a *Agent) watchPools(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.config.Set.Changed():
		case <-tick.C:
		}
		if err := a.report(ctx); err != nil && ctx.Err() == nil {
			logger(ctx).Error(err, "Reporting the host's pools failed")
		}
	}
}

// reportPool sees to it that the record holds the UUID of an open pool.
func (a *Agent) reportPool(ctx context.Context, name string) error {
	a.mu.Lock()
	known := a.reported.Pools[name].UUID != ""
	a.mu.Unlock()
	if known {
		return nil
	}
	return a.report(ctx)
}

// report writes the host's record where it has changed. A pool that is no longer served here keeps its
// UUID as long as its datastore has a record, so that it is known when it comes back.
func (a *Agent) report(ctx context.Context) error {
	// One after the other, so that no older look at the pools replaces a newer one.
	a.reporting.Lock()
	defer a.reporting.Unlock()
	pools := a.config.Set.Statuses()
	for name, pool := range pools {
		pool.Orphans = pool.Orphans[:min(len(pool.Orphans), maxOrphans)]
		pools[name] = pool
	}
	a.mu.Lock()
	last := a.reported
	for name, old := range last.Pools {
		if _, served := pools[name]; !served && a.datastores[name] {
			pools[name] = v1alpha1.PoolStatus{UUID: old.UUID, Health: v1alpha1.Unavailable, Findings: []v1alpha1.Finding{{
				Reason: "NotServed", Message: "the datastore's hosts no longer name this one",
			}}}
		}
	}
	a.mu.Unlock()
	next := a.status(pools)
	if equality.Semantic.DeepEqual(last, next) {
		return nil
	}
	host, err := store.ChangeStatus(ctx, a.config.Store.Hosts, a.config.Host, func(h *v1alpha1.DatastoreHost) error {
		if equality.Semantic.DeepEqual(h.Status, next) {
			return store.Unchanged()
		}
		h.Status = next
		return nil
	})
	if err != nil {
		return fault.Wrap(err, "report the pools of host", a.config.Host)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reported = host.Status
	return nil
}

// status is the host's, with these pools.
func (a *Agent) status(pools map[string]v1alpha1.PoolStatus) v1alpha1.DatastoreHostStatus {
	out := v1alpha1.DatastoreHostStatus{
		MachineID: a.config.MachineID, BootID: a.config.BootID, Version: a.config.Version, Pools: maps.Clone(pools),
		PoolCount: int32(len(pools)), Health: v1alpha1.Healthy,
	}
	for _, pool := range pools {
		if pool.Health.Severity() > out.Health.Severity() {
			out.Health = pool.Health
		}
	}
	return out
}
