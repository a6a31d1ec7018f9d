package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// statusInterval is how often the datastores' status is brought up to date. It is written on change only.
const statusInterval = 5 * time.Second

// watchStatus keeps the datastores' status up to date until ctx ends.
func (c *Controller) watchStatus(ctx context.Context) error {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		if err := c.updateStatus(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Writing the datastores' status failed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Controller) updateStatus(ctx context.Context) error {
	var held error
	if c.config.HoldDatastores {
		held = c.holdDatastores(ctx)
	}
	all, err := c.Overview(ctx)
	if err != nil {
		return errors.Join(held, err)
	}
	for _, d := range all {
		_, err := store.ChangeStatus(ctx, c.config.Store.Datastores, d.Name, func(now *v1alpha1.Datastore) error {
			status := d.Status
			status.Conditions = slices.Clone(now.Status.Conditions)
			meta.SetStatusCondition(&status.Conditions, readyCondition(d))
			if equality.Semantic.DeepEqual(now.Status, status) {
				return store.Unchanged()
			}
			now.Status = status
			return nil
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return errors.Join(held, err)
		}
	}
	return held
}

// Summary is a datastore as its hosts see it now.
type Summary struct {
	Name     string
	Status   v1alpha1.DatastoreStatus
	Findings []string
	// Orphans are storage without a record and records without storage.
	Orphans int
}

// Overview returns every datastore with its present status, sorted by name. Conditions are left out.
func (c *Controller) Overview(ctx context.Context) ([]Summary, error) {
	datastores, err := c.config.Store.Datastores.List(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := c.config.Store.Hosts.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Summary, 0, len(datastores))
	for _, d := range datastores {
		out = append(out, c.summarize(d, hosts))
	}
	return out, nil
}

func (c *Controller) summarize(d *v1alpha1.Datastore, hosts []*v1alpha1.DatastoreHost) Summary {
	out := Summary{Name: d.Name, Status: v1alpha1.DatastoreStatus{ObservedGeneration: d.Generation, Health: v1alpha1.Healthy}}
	s := &out.Status
	var total, used, available, provisioned int64
	for _, h := range hosts {
		pool, ok := h.Status.Pools[d.Name]
		if !ok {
			continue
		}
		s.Hosts = append(s.Hosts, h.Name)
		if pool.Health.Severity() > s.Health.Severity() {
			s.Health = pool.Health
		}
		for _, f := range pool.Findings {
			out.Findings = append(out.Findings, "host "+h.Name+": "+f.Message)
		}
		out.Orphans += len(pool.Orphans)
		promised, volumes := c.ledger(poolKey{d.Name, h.Name}).Promised()
		provisioned += promised
		s.Volumes += int32(volumes)
		total += pool.Total.Value()
		used += pool.Used.Value()
		available += max(0, pool.Promisable.Value()-promised)
	}
	if len(s.Hosts) == 0 {
		s.Health = v1alpha1.Unavailable
		out.Findings = append(out.Findings, "no host has reported a pool of it; is the driver running on its hosts?")
	}
	s.Total, s.Used = v1alpha1.Bytes(total), v1alpha1.Bytes(used)
	s.Available, s.Provisioned = v1alpha1.Bytes(available), v1alpha1.Bytes(provisioned)
	s.Summary = &v1alpha1.DatastoreSummary{
		State: state(d, s.Health), Hosts: int32(len(s.Hosts)), Total: v1alpha1.Readable(total), Used: v1alpha1.Readable(used),
		Provisioned: v1alpha1.Readable(provisioned),
	}
	return out
}

// state is a datastore's health and what its administrator has in mind with it, in a word.
func state(d *v1alpha1.Datastore, health v1alpha1.Health) string {
	switch {
	case d.Spec.State == v1alpha1.StateInactive:
		return string(v1alpha1.StateInactive)
	case d.Spec.Maintenance != v1alpha1.MaintenanceNone:
		return string(health) + "," + string(d.Spec.Maintenance)
	}
	return string(health)
}

func readyCondition(d Summary) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: d.Status.ObservedGeneration,
		Reason:  string(cmp.Or(d.Status.Health, v1alpha1.Healthy)),
		Message: fmt.Sprintf("served by %s", strings.Join(d.Status.Hosts, ", ")),
	}
	if d.Status.Health.Severity() >= v1alpha1.Critical.Severity() {
		condition.Status = metav1.ConditionFalse
	}
	if len(d.Findings) > 0 {
		condition.Message = strings.Join(d.Findings, "; ")
	}
	return condition
}
