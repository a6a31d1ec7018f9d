package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// errWithdrawn ends a copy whose record is to be deleted.
var errWithdrawn = fault.New(fault.Busy, "it is being deleted")

// copiesInUse tells whether a subject's pool copies it while its source is in use.
func (a *Agent) copiesInUse(s *subject) bool {
	return datastore.CopiesInUse(s.Format, a.config.Set.Statuses()[s.on].Features)
}

// withdraw ends the copy of that key that is under way.
func (a *Agent) withdraw(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cancel := a.copies[key]; cancel != nil {
		cancel(errWithdrawn)
	}
}

// copy makes a copy or a snapshot of a subject's source. Where the pool cannot do that while the source is in
// use, the copy is only begun, and only called whole, where no host has the source: a publish that comes
// meanwhile finds the copy's record, and is refused.
func (a *Agent) copy(ctx context.Context, pool datastore.Pool, s *subject) (datastore.Made, error) {
	if err := a.reserveCopy(ctx, pool, s); err != nil {
		return datastore.Made{}, err
	}
	if err := a.inherit(ctx, s); err != nil {
		return datastore.Made{}, err
	}
	copying, end, err := a.beginCopy(ctx, s)
	if err != nil {
		return datastore.Made{}, err
	}
	made, err := a.copyDetached(copying, pool, s)
	if cause := context.Cause(copying); err != nil && cause != nil {
		err = cause // rather than that the context ended
	}
	end()
	if err != nil {
		return made, a.discardTorn(ctx, pool, s, err)
	}
	a.ledger(s.on).Set(s.Key(), s.share(made))
	return made, nil
}

// inherit finds where the source lies, and what is ordered of its bytes by now: a copy may come to hold the last of them.
func (a *Agent) inherit(ctx context.Context, s *subject) error {
	source, err := a.tableOf(s.source.Snapshot).get(ctx, s.source.ID)
	if err == nil && source.UID == s.source.UID {
		s.source.Wipe, s.source.Location, s.source.Identity = source.Wipe, source.Location, source.Identity
	}
	return ignore(err, fault.NotFound) // whoever copies says so
}

// discardTorn throws away what may hold bytes of two times, so that no later try goes on with it.
func (a *Agent) discardTorn(ctx context.Context, pool datastore.Pool, s *subject, why error) error {
	if !errors.Is(why, errTorn) {
		return why
	}
	err := pool.Delete(ctx, s.Volume, datastore.Disposal{Policy: v1alpha1.DeleteData})
	if err == nil {
		err = s.table.alter(ctx, s, func(w *v1alpha1.WorkerStatus) bool {
			changed := w.TakenAt != nil || w.Progress != nil
			w.TakenAt, w.Progress = nil, nil
			return changed
		})
	}
	return errors.Join(why, err)
}

// reserveCopy promises a copy its space: a volume its size, a snapshot what its source holds now.
func (a *Agent) reserveCopy(ctx context.Context, pool datastore.Pool, s *subject) error {
	bytes := s.Takes()
	if s.Snapshot {
		var err error
		if bytes, err = datastore.SnapshotTakes(ctx, pool, *s.source, s.Volume); err != nil {
			return fault.Wrap(err, "look at the source of", s.ID)
		}
	}
	return a.reserve(ctx, s, bytes)
}

// beginCopy returns a context that the copy's deletion ends, with errWithdrawn.
func (a *Agent) beginCopy(ctx context.Context, s *subject) (_ context.Context, end func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	key := s.Key()
	a.mu.Lock()
	a.copies[key] = cancel
	a.mu.Unlock()
	end = func() {
		cancel(nil)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.copies, key)
	}
	// A deletion may have come before it could end this.
	now, err := s.table.get(ctx, s.ID)
	if fault.Is(err, fault.NotFound) || err == nil && now.deletion != nil {
		err = errWithdrawn
	}
	if err != nil {
		end()
	}
	return ctx, end, err
}

// copyDetached makes the copy and keeps its progress in the record. Where the source must not be in use, it
// is looked at before, whenever its record changes, and once more when the copy is whole: one that may be torn
// is thrown away.
//
// Before, an attachment is use: the copy's record is told by now, so that a later publish gives way to it, and takes
// its attachment back. From then on only a host that says it is staging is.
func (a *Agent) copyDetached(ctx context.Context, pool datastore.Pool, s *subject) (datastore.Made, error) {
	detached := !s.source.Snapshot && !a.copiesInUse(s)
	if !detached {
		return a.copyNow(ctx, pool, s)
	}
	if err := a.awaitDetached(ctx, s); err != nil {
		return datastore.Made{}, err
	}
	guarded, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.guardSource(guarded, s, cancel)
	}()
	made, err := a.copyNow(guarded, pool, s)
	if cause := context.Cause(guarded); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-watched
	if err == nil {
		err = a.sourceIsFree(ctx, s, staging)
	}
	return made, err
}

// givingWay is how long a publish may take to take an attachment back that must give way to a copy.
const givingWay = time.Second

// awaitDetached is an error where the source is in use by a host, or is gone. An attachment is given a moment: it may
// have been written only to give way.
func (a *Agent) awaitDetached(ctx context.Context, s *subject) error {
	err := a.sourceIsFree(ctx, s, attached)
	if !errors.Is(err, errTorn) {
		return err
	}
	moment, cancel := context.WithTimeout(ctx, givingWay)
	defer cancel()
	_, waited := store.Wait(moment, a.config.Store.Volumes, s.source.ID, func(v *v1alpha1.DatastoreVolume) (bool, error) {
		return v == nil || len(attached(v)) == 0, nil
	})
	if waited != nil {
		return errors.Join(err, ctx.Err())
	}
	return a.sourceIsFree(ctx, s, attached)
}

// staging are the hosts that stage a volume, or have it staged.
func staging(v *v1alpha1.DatastoreVolume) []string { return slices.Sorted(maps.Keys(v.Status.Nodes)) }

// attached are the hosts that may use a volume, or do.
func attached(v *v1alpha1.DatastoreVolume) []string {
	hosts := slices.AppendSeq(staging(v), maps.Keys(v.Spec.Attachments))
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// errTorn is in the error of a copy whose source came into use.
var errTorn = errors.New("a copy made meanwhile would be torn")

// guardSource ends a copy whose source comes into use, until ctx ends.
func (a *Agent) guardSource(ctx context.Context, s *subject, cancel context.CancelCauseFunc) {
	err := store.Each(ctx, a.config.Store.Volumes, s.source.ID, func(store.Event[v1alpha1.DatastoreVolume]) {
		if err := a.sourceIsFree(ctx, s, staging); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	if ctx.Err() == nil {
		cancel(err)
	}
}

// sourceIsFree is an error where hosts use the source, or it is gone.
func (a *Agent) sourceIsFree(ctx context.Context, s *subject, users func(*v1alpha1.DatastoreVolume) []string) error {
	v, err := a.config.Store.Volumes.Get(ctx, s.source.ID)
	if err == nil && datastore.FromRecord(v).UID != s.source.UID {
		err = fault.New(fault.NotFound, "volume %q is another one by now", s.source.ID)
	}
	if err != nil {
		return fault.Wrap(err, "look at the source of", s.ID)
	}
	hosts := users(v)
	if len(hosts) == 0 {
		return nil
	}
	return fault.New(fault.Precondition, "volume %q is used by %s, and datastore %q copies only what is not in use: unpublish it first, "+
		"or use a datastore on xfs with reflink or btrfs; %w", s.source.ID, strings.Join(hosts, ", "), s.on, errTorn)
}

// copyNow makes the copy, whole at one instant or of a source that is at rest.
func (a *Agent) copyNow(ctx context.Context, pool datastore.Pool, s *subject) (made datastore.Made, err error) {
	progress := a.follow(ctx, s)
	defer progress.stop()
	if !s.Snapshot {
		return pool.Create(ctx, s.Volume, s.source, progress.tell)
	}
	take := func(ctx context.Context) error {
		made, err = pool.Snapshot(ctx, *s.source, s.Volume, progress.tell)
		return err
	}
	if a.config.Quiesce == nil || !a.copiesInUse(s) || datastore.FreezesItself(pool) {
		return made, take(ctx)
	}
	if err := ctx.Err(); err != nil {
		return made, err // nothing is frozen by a process that ends
	}
	err = a.config.Quiesce(ctx, s.source.ID, take)
	return made, err
}
