package controller

import (
	"context"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

const (
	// longestWait bounds a call whose caller set no deadline.
	longestWait = 2 * time.Minute
	// failurePatience is how long a call waits after its worker reported a failure: the next try may
	// succeed. Then the caller is told, and the agent goes on.
	failurePatience = 3 * time.Second
)

// await waits until done is satisfied with a record. Where the worker reports a failure meanwhile, that is
// returned as fault.Unavailable after a while, and when ctx ends. A record that goes away or is replaced
// is fault.NotFound.
func (c *Controller) await(ctx context.Context, r *v1alpha1.DatastoreVolume, done func(*v1alpha1.DatastoreVolume) (bool, error)) (*v1alpha1.DatastoreVolume, error) {
	wait, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	var failed *v1alpha1.Failure
	v, err := store.Wait(wait, c.config.Store.Volumes, r.Name, func(v *v1alpha1.DatastoreVolume) (bool, error) {
		if v == nil || v.UID != r.UID {
			return false, fault.New(fault.NotFound, "volume %q is gone", r.Name)
		}
		ok, err := done(v)
		if ok || err != nil {
			return ok, err
		}
		if f := v.Status.Worker.Failure; f != nil && failed == nil {
			time.AfterFunc(failurePatience, cancel)
			failed = f
		} else if f != nil {
			failed = f
		}
		return false, nil
	})
	if err != nil && wait.Err() != nil && failed != nil {
		return nil, fault.New(fault.Unavailable, "%s (%s; it is tried again)", failed.Message, failed.Reason)
	}
	return v, err
}

// remove deletes a record whose storage is dealt with: Deleted or Rejected.
func (c *Controller) remove(ctx context.Context, r *v1alpha1.DatastoreVolume) error {
	volumes := c.config.Store.Volumes
	err := volumes.Delete(ctx, r.Name, string(r.UID))
	if err == nil {
		_, err = store.Change(ctx, volumes, r.Name, func(v *v1alpha1.DatastoreVolume) error {
			if v.UID != r.UID {
				return store.Unchanged()
			}
			v.Finalizers = nil
			return nil
		})
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fault.Wrap(err, "remove the record of volume", r.Name)
	}
	c.account(r.Name, nil)
	return nil
}
