package controller

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Modify sets a volume's mutable parameters. What they leave out stays as it is; what they can't say is
// fault.Invalid and changes nothing.
func (c *Controller) Modify(ctx context.Context, id string, parameters map[string]string) error {
	ctx = step.WithVolume(ctx, id)
	v, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	m, err := c.canBecome(ctx, v, parameters)
	if err != nil {
		return fault.Wrap(err, "modify volume", id)
	}
	modified, err := store.Change(ctx, c.config.Store.Volumes, id, func(now *v1alpha1.DatastoreVolume) error {
		if now.UID != v.UID || now.Spec.Deletion != nil || now.DeletionTimestamp != nil {
			return fault.New(fault.Busy, "it is being deleted")
		}
		if m.hold(now) {
			return store.Unchanged()
		}
		if m.onDelete != "" {
			now.Spec.OnDelete = m.onDelete
		}
		if m.wipe != "" {
			now.Spec.Wipe = m.wipe
		}
		return nil
	})
	if err == nil {
		_, err = c.await(ctx, modified, func(v *v1alpha1.DatastoreVolume) (bool, error) {
			return v.Spec.Deletion != nil || marked(v), nil
		})
	}
	return fault.Wrap(err, "modify volume", id)
}

// marked tells whether a volume's mark says what its record says, so that the modification outlives the records. Where
// the worker has not said what it says, it says nothing.
func marked(v *v1alpha1.DatastoreVolume) bool {
	says := v1alpha1.Marked{}
	if m := v.Status.Worker.Marked; m != nil {
		says = *m
	}
	return says == v1alpha1.Marked{OnDelete: v.Spec.OnDelete, Wipe: v.Spec.Wipe}
}

// CanBecome says, as fault.Invalid, which mutable parameters a volume can't have.
func (c *Controller) CanBecome(ctx context.Context, v *v1alpha1.DatastoreVolume, parameters map[string]string) error {
	_, err := c.canBecome(ctx, v, parameters)
	return err
}

func (c *Controller) canBecome(ctx context.Context, v *v1alpha1.DatastoreVolume, parameters map[string]string) (mutable, error) {
	m, err := parseMutable(parameters)
	if err != nil || m == (mutable{}) {
		return m, err
	}
	d, err := c.config.Store.Datastores.Get(ctx, v.Spec.Datastore)
	if err != nil {
		return m, fault.As(fault.Unavailable, err)
	}
	capabilities, ok := c.capabilities(d)
	if !ok {
		return m, fault.New(fault.Unavailable, "datastore %q: type %q is not served by this version", d.Name, d.Spec.Type)
	}
	if err := ends(capabilities, m.onDelete, m.wipe); err != nil {
		return m, fault.Wrap(err, "use datastore", d.Name)
	}
	if m.wipe != v1alpha1.WipeZero {
		return m, nil
	}
	pool, err := c.pool(ctx, d.Name, v.Spec.Worker.Host)
	if err != nil {
		return m, err
	}
	return m, fault.Wrap(zeroes(v.Spec.Format, pool.Features), "use datastore", d.Name)
}

// pool is a datastore as a host reported it last. One that can't be used now is fault.Unavailable.
func (c *Controller) pool(ctx context.Context, name, host string) (v1alpha1.PoolStatus, error) {
	h, err := c.config.Store.Hosts.Get(ctx, host)
	if err != nil {
		return v1alpha1.PoolStatus{}, fault.As(fault.Unavailable, err)
	}
	pool, ok := h.Status.Pools[name]
	switch {
	case !ok:
		return pool, fault.New(fault.Unavailable, "host %q has no pool of datastore %q now", host, name)
	case pool.Health == v1alpha1.Unavailable:
		return pool, fault.New(fault.Unavailable, "datastore %q on host %q is unavailable: %s", name, host, findings(pool))
	}
	return pool, nil
}
