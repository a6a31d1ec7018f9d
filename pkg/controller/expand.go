package controller

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Expand makes a volume at least as large as required and returns its size. A volume that is large enough
// stays as it is. What can never fit is fault.OutOfRange, what does not fit now is fault.Exhausted; the record's
// size is taken back then.
func (c *Controller) Expand(ctx context.Context, id string, r Range) (Expanded, error) {
	ctx = step.WithVolume(ctx, id)
	if err := r.check(); err != nil {
		return Expanded{}, err
	}
	v, err := c.Get(ctx, id)
	if err != nil {
		return Expanded{}, err
	}
	bytes, err := c.grow(ctx, v, r)
	// The node refreshes an image's device and grows its file system; a sub-directory's limit is the worker's.
	return Expanded{Bytes: bytes, OnNode: v.Spec.Format != v1alpha1.FormatSubdirectory}, err
}

func (c *Controller) grow(ctx context.Context, v *v1alpha1.DatastoreVolume, r Range) (int64, error) {
	id := v.Name
	if has := v.Status.Worker.Size.Value(); v.Status.Worker.Phase == v1alpha1.Ready && has >= r.Required && v.Spec.Size.Cmp(v.Status.Worker.Size) <= 0 {
		if !r.holds(has) {
			return 0, fault.New(fault.OutOfRange, "volume %q has %d bytes, over the limit of %d bytes; volumes are never made smaller", id, has, r.Limit)
		}
		return has, nil
	}
	pool, bytes, err := c.roomToGrow(ctx, v, r)
	if err == nil {
		err = c.underWay(ctx, volumeKey(id))
	}
	if err != nil {
		return 0, fault.Wrap(err, "expand volume", id)
	}
	grown, err := c.raise(ctx, v, pool, bytes)
	if err != nil {
		return 0, fault.Wrap(err, "expand volume", id)
	}
	return grown.Status.Worker.Size.Value(), nil
}

// roomToGrow finds the volume's pool, and the size that it would have there.
func (c *Controller) roomToGrow(ctx context.Context, v *v1alpha1.DatastoreVolume, r Range) (candidate, int64, error) {
	candidates, err := c.candidates(ctx, parameters{datastore: v.Spec.Datastore})
	if err != nil {
		return candidate{}, 0, fault.As(fault.Unavailable, err)
	}
	for _, pool := range candidates {
		if pool.host != v.Spec.Worker.Host {
			continue
		}
		if !pool.capabilities.Expand {
			return pool, 0, fault.New(fault.Invalid, "volumes of type %s cannot grow", pool.datastore.Spec.Type)
		}
		bytes, err := r.resolve(pool.capabilities.Granularity, 0)
		if err != nil {
			return pool, 0, err
		}
		grown := datastore.FromRecord(v)
		grown.Bytes = bytes
		need, limit := grown.Takes(), pool.pool.Promisable.Value()
		if v.Spec.Provisioning == v1alpha1.Thick {
			limit = min(limit, pool.pool.Total.Value())
		}
		if pool.pool.Health != v1alpha1.Unavailable && need > limit {
			return pool, 0, fault.New(fault.OutOfRange, "datastore %q may promise %d bytes in all, %d are needed", v.Spec.Datastore, limit, need)
		}
		// The volume's own promise counts as room. maxVolumes bounds new ones only.
		pool.promised -= takes(v)
		pool.volumes = 0
		room := pool.room(v1alpha1.Thin)
		if v.Spec.Provisioning == v1alpha1.Thick {
			room = min(room, takes(v)+pool.pool.Free.Value())
		}
		return pool, bytes, fault.Wrap(pool.accepts(need, room), "use datastore", pool.String())
	}
	return candidate{}, 0, fault.New(fault.Unavailable, "host %q has no pool of datastore %q now", v.Spec.Worker.Host, v.Spec.Datastore)
}

// raise writes the size and waits for the worker, and takes it back where the worker has no room, or refuses while the volume is in use.
func (c *Controller) raise(ctx context.Context, v *v1alpha1.DatastoreVolume, pool candidate, bytes int64) (*v1alpha1.DatastoreVolume, error) {
	grows := datastore.FromRecord(v)
	grows.Bytes = bytes
	if err := c.reserve(v.Name, fit{candidate: pool, bytes: bytes, volume: grows}); err != nil {
		return nil, err
	}
	raised, err := store.Change(ctx, c.config.Store.Volumes, v.Name, func(now *v1alpha1.DatastoreVolume) error {
		switch {
		case now.UID != v.UID || now.Spec.Deletion != nil:
			return fault.New(fault.Busy, "it is being deleted; try again")
		case now.Status.Worker.Phase != v1alpha1.Ready:
			return fault.New(fault.Unavailable, "it is not ready yet; try again")
		case now.Spec.Size.Value() == bytes:
			return store.Unchanged()
		}
		now.Spec.Size = v1alpha1.Bytes(bytes)
		return nil
	})
	if err != nil {
		c.account(v.Name, v)
		return nil, err
	}
	grown, err := c.await(ctx, raised, func(now *v1alpha1.DatastoreVolume) (bool, error) {
		if f := now.Status.Worker.Failure; f != nil && f.ObservedGeneration >= raised.Generation {
			// Something else has to change first.
			if kind := fault.ParseKind(f.Reason); kind == fault.Exhausted || kind == fault.Precondition {
				return false, fault.New(kind, "%s", f.Message)
			}
		}
		return now.Status.Worker.Size.Value() >= bytes, nil
	})
	if fault.Is(err, fault.Exhausted) || fault.Is(err, fault.Precondition) {
		if back := c.takeBack(ctx, raised); back != nil {
			return nil, back
		}
	}
	return grown, err
}

// takeBack writes the size that the volume has in place of the one that it cannot have.
func (c *Controller) takeBack(ctx context.Context, raised *v1alpha1.DatastoreVolume) error {
	v, err := store.Change(ctx, c.config.Store.Volumes, raised.Name, func(now *v1alpha1.DatastoreVolume) error {
		if now.UID != raised.UID || now.Spec.Size.Cmp(raised.Spec.Size) != 0 || now.Status.Worker.Size.Cmp(now.Spec.Size) >= 0 {
			return store.Unchanged()
		}
		now.Spec.Size = now.Status.Worker.Size
		return nil
	})
	if err != nil {
		return err
	}
	c.account(v.Name, v)
	return nil
}
