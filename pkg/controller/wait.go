package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

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

// await waits for a volume's worker; see awaitWorker.
func (c *Controller) await(ctx context.Context, r *v1alpha1.DatastoreVolume, done func(*v1alpha1.DatastoreVolume) (bool, error)) (*v1alpha1.DatastoreVolume, error) {
	c.wake(volumeKey(r.Name), r.Status.Worker)
	return awaitWorker(ctx, c.config.Store.Volumes, r.Name, func(v *v1alpha1.DatastoreVolume) (*v1alpha1.Failure, bool, error) {
		if v == nil || v.UID != r.UID {
			return nil, false, fault.New(fault.NotFound, "volume %q is gone", r.Name)
		}
		ok, err := done(v)
		return v.Status.Worker.Failure, ok, err
	})
}

// awaitSnapshot is await for a snapshot.
func (c *Controller) awaitSnapshot(ctx context.Context, r *v1alpha1.DatastoreSnapshot, done func(*v1alpha1.DatastoreSnapshot) (bool, error)) (*v1alpha1.DatastoreSnapshot, error) {
	c.wake(snapshotKey(r.Name), r.Status.Worker)
	return awaitWorker(ctx, c.config.Store.Snapshots, r.Name, func(s *v1alpha1.DatastoreSnapshot) (*v1alpha1.Failure, bool, error) {
		if s == nil || s.UID != r.UID {
			return nil, false, fault.New(fault.NotFound, "snapshot %q is gone", r.Name)
		}
		ok, err := done(s)
		return s.Status.Worker.Failure, ok, err
	})
}

// wake has work that failed before tried again for a caller who waits for it: the cause may be gone.
func (c *Controller) wake(key string, w v1alpha1.WorkerStatus) {
	if w.Failure != nil && c.config.Wake != nil {
		c.config.Wake(key)
	}
}

// awaitWorker waits until look is satisfied with a record, of which it also says why the worker failed last.
// That is returned as fault.Unavailable after a while, and when ctx ends.
func awaitWorker[T any](ctx context.Context, t store.Table[T], name string, look func(*T) (*v1alpha1.Failure, bool, error)) (*T, error) {
	wait, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	var failed *v1alpha1.Failure
	record, err := store.Wait(wait, t, name, func(r *T) (bool, error) {
		failure, ok, err := look(r)
		if ok || err != nil {
			return ok, err
		}
		if failure != nil && failed == nil {
			time.AfterFunc(failurePatience, cancel)
		}
		if failure != nil {
			failed = failure
		}
		return false, nil
	})
	if err != nil && wait.Err() != nil && failed != nil {
		return nil, fault.New(fault.Unavailable, "%s (%s; it is tried again)", failed.Message, failed.Reason)
	}
	return record, err
}

// remove deletes a volume's record whose storage is dealt with.
func (c *Controller) remove(ctx context.Context, r *v1alpha1.DatastoreVolume) error {
	if err := removeRecord(ctx, c.config.Store.Volumes, r.Name, r.UID); err != nil {
		return fault.Wrap(err, "remove the record of volume", r.Name)
	}
	c.account(r.Name, nil)
	return nil
}

// removeSnapshot is remove for a snapshot.
func (c *Controller) removeSnapshot(ctx context.Context, r *v1alpha1.DatastoreSnapshot) error {
	if err := removeRecord(ctx, c.config.Store.Snapshots, r.Name, r.UID); err != nil {
		return fault.Wrap(err, "remove the record of snapshot", r.Name)
	}
	c.accountSnapshot(r.Name, nil)
	return nil
}

// removeRecord deletes a record and takes its finalizers off. One that is gone is success.
func removeRecord[T any, P store.Record[T]](ctx context.Context, t store.Table[T], name string, uid types.UID) error {
	err := t.Delete(ctx, name, string(uid))
	if err == nil {
		_, err = store.Change[T, P](ctx, t, name, func(r *T) error {
			if P(r).GetUID() != uid {
				return store.Unchanged()
			}
			P(r).SetFinalizers(nil)
			return nil
		})
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
