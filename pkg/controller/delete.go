package controller

import (
	"context"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Get returns a volume's record.
func (c *Controller) Get(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	v, err := c.config.Store.Volumes.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return v, err
}

// Delete removes a volume and its data, and returns when both are gone. A volume that is not there is
// success. One that a host may be using is fault.Precondition.
func (c *Controller) Delete(ctx context.Context, id string) error {
	ctx = step.WithVolume(ctx, id)
	found, err := c.Get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if p := found.Status.Worker.Phase; p == v1alpha1.Deleted || p == v1alpha1.Rejected {
		return c.remove(ctx, found)
	}
	marked, err := store.Change(ctx, c.config.Store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		if v.UID != found.UID {
			return fault.New(fault.Busy, "volume %q was replaced by another of that name; try again", id)
		}
		if v.Spec.Deletion != nil {
			return store.Unchanged()
		}
		if hosts := users(v); len(hosts) > 0 {
			return fault.New(fault.Precondition, "volume %q is used by %s; unpublish it there first", id, strings.Join(hosts, ", "))
		}
		v.Spec.Deletion = &v1alpha1.Deletion{RequestedAt: metav1.NewTime(c.config.Now()), Policy: v1alpha1.DeleteData}
		return nil
	})
	if err == nil {
		marked, err = c.await(ctx, marked, func(v *v1alpha1.DatastoreVolume) (bool, error) {
			return v.Status.Worker.Phase == v1alpha1.Deleted, nil
		})
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, "delete volume", id)
	}
	return c.remove(ctx, marked)
}

// users are the hosts that a volume is attached to, or that may still be using it, sorted.
func users(v *v1alpha1.DatastoreVolume) []string {
	hosts := slices.AppendSeq(slices.Collect(maps.Keys(v.Spec.Attachments)), maps.Keys(v.Status.Nodes))
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
