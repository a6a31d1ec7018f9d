package controller

import (
	"cmp"
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// DeleteSnapshot removes a snapshot and returns when it is gone. One that is not there is success. One that a
// volume is being made of is fault.Precondition.
func (c *Controller) DeleteSnapshot(ctx context.Context, id string) error {
	ctx = step.WithVolume(ctx, snapshotKey(id))
	found, err := c.findSnapshot(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if finished(found.Status.Worker) {
		return c.removeSnapshot(ctx, found)
	}
	marked, err := c.orderSnapshotDeletion(ctx, found)
	if err == nil {
		marked, err = c.awaitSnapshot(ctx, marked, func(s *v1alpha1.DatastoreSnapshot) (bool, error) {
			return s.Status.Worker.Phase == v1alpha1.Deleted, nil
		})
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, "delete snapshot", id)
	}
	return c.removeSnapshot(ctx, marked)
}

// orderSnapshotDeletion writes that a snapshot is to be deleted. Its bytes are wiped as its datastore says; they
// are never kept, since nobody could use them.
func (c *Controller) orderSnapshotDeletion(ctx context.Context, found *v1alpha1.DatastoreSnapshot) (*v1alpha1.DatastoreSnapshot, error) {
	if found.Spec.Deletion == nil {
		if err := c.underWay(ctx, snapshotKey(found.Name)); err != nil {
			return nil, inUse(err)
		}
	}
	wipe, err := c.snapshotWipe(ctx, found)
	if err != nil {
		return nil, err
	}
	return store.Change(ctx, c.config.Store.Snapshots, found.Name, func(s *v1alpha1.DatastoreSnapshot) error {
		if s.UID != found.UID {
			return fault.New(fault.Busy, "snapshot %q was replaced by another of that name; try again", s.Name)
		}
		if s.Spec.Deletion != nil {
			return store.Unchanged()
		}
		s.Spec.Deletion = &v1alpha1.Deletion{
			RequestedAt: metav1.NewTime(c.config.Now()), Policy: v1alpha1.DeleteData, Wipe: wipe,
		}
		return nil
	})
}

// snapshotWipe is what is done to a snapshot's bytes: what its source asked for, else what the datastore says. Zeroes are
// left out where they would reach none of them: what lies there could only come there by asking for another wipe.
func (c *Controller) snapshotWipe(ctx context.Context, s *v1alpha1.DatastoreSnapshot) (v1alpha1.WipePolicy, error) {
	defaults, err := c.defaults(ctx, s.Spec.Datastore, s.Status.Worker)
	if err != nil {
		return "", err
	}
	wipe := cmp.Or(s.Spec.Wipe, defaults.Wipe)
	if wipe != v1alpha1.WipeZero {
		return wipe, nil
	}
	pool, err := c.pool(ctx, s.Spec.Datastore, s.Spec.Worker.Host)
	if err != nil {
		return "", err
	}
	if fault.Is(zeroes(s.Spec.Format, pool.Features), fault.Invalid) {
		return v1alpha1.WipeDefault, nil
	}
	return v1alpha1.WipeZero, nil
}

// inUse gives a snapshot that is being copied the kind that the specification has for it (DeleteSnapshot, errors).
func inUse(err error) error {
	if fault.Is(err, fault.Busy) {
		return fault.As(fault.Precondition, err)
	}
	return err
}

// Snapshot returns the record of a snapshot that is taken. One that is not yet is fault.Unavailable, one of which only
// the record is left fault.NotFound.
func (c *Controller) Snapshot(ctx context.Context, id string) (*v1alpha1.DatastoreSnapshot, error) {
	s, err := c.findSnapshot(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case finished(s.Status.Worker):
		return nil, fault.New(fault.NotFound, "snapshot %q does not exist", id)
	case !taken(s):
		return nil, fault.New(fault.Unavailable, "snapshot %q is not taken yet; try again", id)
	}
	return s, nil
}

// taken tells whether a snapshot holds, or will hold, the bytes of one instant that is known.
func taken(s *v1alpha1.DatastoreSnapshot) bool {
	return s.Status.Worker.Phase == v1alpha1.Ready || s.Status.Worker.Phase == v1alpha1.Creating
}

func (c *Controller) findSnapshot(ctx context.Context, id string) (*v1alpha1.DatastoreSnapshot, error) {
	if err := CheckSnapshotID(id); err != nil {
		return nil, err
	}
	s, err := c.config.Store.Snapshots.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, fault.New(fault.NotFound, "snapshot %q does not exist", id)
	}
	return s, err
}

// ListSnapshots returns a page of the snapshots that the filter chooses and that are taken, sorted by ID; max 0 is
// all. What no snapshot or volume can be called chooses none. A token that it did not hand out is fault.Busy.
func (c *Controller) ListSnapshots(ctx context.Context, f SnapshotFilter, token string, max int) (Page[*v1alpha1.DatastoreSnapshot], error) {
	all, err := c.chosen(ctx, f)
	if err != nil {
		return Page[*v1alpha1.DatastoreSnapshot]{}, err
	}
	return paged(all, token, max, func(s *v1alpha1.DatastoreSnapshot) (string, *v1alpha1.DatastoreSnapshot, bool) {
		return s.Name, s, taken(s) && (f.Volume == "" || s.Spec.Volume == f.Volume)
	})
}

// chosen are the snapshots among which a filter chooses: with an ID the one, which is read live.
func (c *Controller) chosen(ctx context.Context, f SnapshotFilter) ([]*v1alpha1.DatastoreSnapshot, error) {
	if f.ID == "" {
		return c.config.Store.Snapshots.List(ctx)
	}
	s, err := c.findSnapshot(ctx, f.ID)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []*v1alpha1.DatastoreSnapshot{s}, nil
}
