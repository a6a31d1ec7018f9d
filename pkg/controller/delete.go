package controller

import (
	"cmp"
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

// Get returns a volume's record. One of which only the record is left is fault.NotFound, too.
func (c *Controller) Get(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	v, err := c.find(ctx, id)
	if err == nil && finished(v.Status.Worker) {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return v, err
}

// GetReady returns the record of a volume that there is. One that is still being made is fault.Unavailable.
func (c *Controller) GetReady(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	v, err := c.Get(ctx, id)
	if err == nil && making(v.Status.Worker) {
		return nil, fault.New(fault.Unavailable, "volume %q is not ready yet%s; try again", id, progress(v.Status.Worker.Progress))
	}
	return v, err
}

func (c *Controller) find(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	v, err := c.config.Store.Volumes.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return v, err
}

// Delete ends a volume and returns when that is done: what becomes of its data is the volume's own choice, else
// its datastore's. A volume that is not there is success. One that a host may be using is fault.Precondition, one
// that is being copied fault.Busy.
func (c *Controller) Delete(ctx context.Context, id string) error {
	ctx = step.WithVolume(ctx, id)
	found, err := c.find(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if finished(found.Status.Worker) {
		return c.remove(ctx, found)
	}
	marked, err := c.orderDeletion(ctx, found)
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

// orderDeletion writes that a volume is to be deleted, and what is to become of its data.
func (c *Controller) orderDeletion(ctx context.Context, found *v1alpha1.DatastoreVolume) (*v1alpha1.DatastoreVolume, error) {
	if found.Spec.Deletion == nil {
		if err := c.underWay(ctx, volumeKey(found.Name)); err != nil {
			return nil, err
		}
	}
	defaults, err := c.defaults(ctx, found.Spec.Datastore, found.Status.Worker)
	if err != nil {
		return nil, err
	}
	if found.Spec.Deletion == nil {
		if err := c.canEnd(ctx, found, disposal(found, defaults)); err != nil {
			return nil, err
		}
	}
	return store.Change(ctx, c.config.Store.Volumes, found.Name, func(v *v1alpha1.DatastoreVolume) error {
		if v.UID != found.UID {
			return fault.New(fault.Busy, "volume %q was replaced by another of that name; try again", v.Name)
		}
		if v.Spec.Deletion != nil {
			return store.Unchanged()
		}
		if hosts := users(v); len(hosts) > 0 {
			return fault.New(fault.Precondition, "volume %q is used by %s; unpublish it there first", v.Name, strings.Join(hosts, ", "))
		}
		v.Spec.Deletion = disposal(v, defaults)
		v.Spec.Deletion.RequestedAt = metav1.NewTime(c.config.Now())
		return nil
	})
}

// defaults are what a datastore says of its volumes. Where it is gone it says nothing of what was never ready; what was
// is fault.Unavailable: an order stands for good, and who brings the datastore back may have said that it keeps its data.
func (c *Controller) defaults(ctx context.Context, name string, w v1alpha1.WorkerStatus) (v1alpha1.VolumeDefaults, error) {
	d, err := c.config.Store.Datastores.Get(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound) && making(w):
		return v1alpha1.VolumeDefaults{}, nil
	case fault.Is(err, fault.NotFound):
		return v1alpha1.VolumeDefaults{}, fault.New(fault.Unavailable, "datastore %q is gone, and says no more what becomes of its data; bring it back", name)
	case err != nil:
		return v1alpha1.VolumeDefaults{}, err
	}
	return d.Spec.Volumes, nil
}

// disposal decides what becomes of a volume's data. One that was never ready holds none that anybody wrote.
func disposal(v *v1alpha1.DatastoreVolume, defaults v1alpha1.VolumeDefaults) *v1alpha1.Deletion {
	out := &v1alpha1.Deletion{Policy: v1alpha1.DeleteData}
	if v.Status.Worker.Phase == v1alpha1.Ready {
		out.Policy = cmp.Or(v.Spec.OnDelete, defaults.OnDelete, v1alpha1.DeleteData)
	}
	if out.Policy == v1alpha1.DeleteData {
		out.Wipe = cmp.Or(v.Spec.Wipe, defaults.Wipe)
	}
	return out
}

// canEnd refuses, before it is ordered, an end that the volume's pool can't give it: an order stands for good, and
// a datastore's default may be younger than the volume.
func (c *Controller) canEnd(ctx context.Context, v *v1alpha1.DatastoreVolume, d *v1alpha1.Deletion) error {
	if d.Wipe != v1alpha1.WipeZero {
		return nil
	}
	pool, err := c.pool(ctx, v.Spec.Datastore, v.Spec.Worker.Host)
	if err != nil {
		return err
	}
	if err := zeroes(v.Spec.Format, pool.Features); err != nil {
		return fault.New(fault.Precondition, "datastore %q: %w, for this volume or as the datastore's default (spec.volumes.wipe)", v.Spec.Datastore, err)
	}
	return nil
}

// users are the hosts that a volume is attached to, or that may still be using it, sorted.
func users(v *v1alpha1.DatastoreVolume) []string {
	hosts := slices.AppendSeq(slices.Collect(maps.Keys(v.Spec.Attachments)), maps.Keys(v.Status.Nodes))
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
