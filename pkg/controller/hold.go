package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// LieOn lists the volumes and snapshots that are recorded on a datastore, as "volume NAME" and "snapshot NAME".
func LieOn(ctx context.Context, s *store.Store, datastore string) ([]string, error) {
	volumes, err := s.Volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	snapshots, err := s.Snapshots.List(ctx)
	var has []string
	for _, v := range volumes {
		if v.Spec.Datastore == datastore {
			has = append(has, "volume "+v.Name)
		}
	}
	for _, v := range snapshots {
		if v.Spec.Datastore == datastore {
			has = append(has, "snapshot "+v.Name)
		}
	}
	return has, err
}

// mostHolders are named of what holds a datastore.
const mostHolders = 10

// SetHeld keeps in a datastore's status what it stays for though it was to be removed; nothing ends it. What is new is
// logged. How is what the administrator can do to have it back.
func SetHeld(ctx context.Context, t store.Table[v1alpha1.Datastore], name string, has []string, how string) error {
	_, err := store.ChangeStatus(ctx, t, name, func(now *v1alpha1.Datastore) error {
		held := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionHeld)
		want := metav1.Condition{
			Type: v1alpha1.ConditionHeld, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVolumesLeft,
			Message: holders(has) + how, ObservedGeneration: now.Generation,
		}
		switch {
		case held == nil && len(has) == 0, held != nil && len(has) > 0 && held.Message == want.Message:
			return store.Unchanged()
		case held == nil:
			klog.FromContext(ctx).Info("A datastore that was removed stays for what lies on it", "datastore", name, "why", want.Message)
		}
		now.Status.Conditions = slices.Clone(now.Status.Conditions)
		if len(has) == 0 {
			meta.RemoveStatusCondition(&now.Status.Conditions, v1alpha1.ConditionHeld)
			return nil
		}
		meta.SetStatusCondition(&now.Status.Conditions, want)
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// holders says what a datastore stays for.
func holders(has []string) string {
	named, more := slices.Sorted(slices.Values(has)), ""
	if len(named) > mostHolders {
		more = fmt.Sprintf(" and %d more", len(named)-mostHolders)
		named = named[:mostHolders]
	}
	return fmt.Sprintf("the datastore was removed and stays for what lies on it, and takes nothing new: %s%s; delete that", strings.Join(named, ", "), more)
}

// holdDatastores keeps every datastore that is removed for as long as something is recorded on it: by a finalizer, which
// each has from the time on that it was seen.
func (c *Controller) holdDatastores(ctx context.Context) error {
	all, err := c.config.Store.Datastores.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		errs = append(errs, fault.Wrap(c.hold(ctx, d), "hold datastore", d.Name))
	}
	return errors.Join(errs...)
}

func (c *Controller) hold(ctx context.Context, d *v1alpha1.Datastore) error {
	leaving := d.DeletionTimestamp != nil
	held := slices.Contains(d.Finalizers, v1alpha1.Finalizer)
	if leaving != held { // it is held and stays, or goes without having been seen
		return nil
	}
	if leaving {
		has, err := LieOn(ctx, c.config.Store, d.Name)
		if err != nil {
			return err
		}
		if len(has) > 0 {
			return SetHeld(ctx, c.config.Store.Datastores, d.Name, has, "")
		}
	}
	_, err := store.Change(ctx, c.config.Store.Datastores, d.Name, func(now *v1alpha1.Datastore) error {
		if (now.DeletionTimestamp != nil) != leaving || slices.Contains(now.Finalizers, v1alpha1.Finalizer) != held {
			return store.Unchanged()
		}
		if leaving {
			now.Finalizers = slices.DeleteFunc(slices.Clone(now.Finalizers), func(f string) bool { return f == v1alpha1.Finalizer })
		} else {
			now.Finalizers = append(slices.Clone(now.Finalizers), v1alpha1.Finalizer)
		}
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
