package agent

import (
	"context"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// reclaimPrefix tells a datastore's reclaim work from a volume: no volume's ID holds a slash.
const reclaimPrefix = "reclaim/"

func reclaimKey(name string) string { return reclaimPrefix + name }

// holdsSpace tells whether a volume may take space on its pool.
func holdsSpace(v *v1alpha1.DatastoreVolume) bool {
	p := v.Status.Worker.Phase
	return p == v1alpha1.Ready
}

// promised returns the bytes that a volume takes of its pool's promises: what it has, even where less
// was asked for since.
func promised(v *v1alpha1.DatastoreVolume) int64 {
	return max(v.Spec.Size.Value(), v.Status.Worker.Size.Value())
}

// wantsWork tells whether a record says something that is not yet true.
func wantsWork(v *v1alpha1.DatastoreVolume) bool {
	w := &v.Status.Worker
	switch {
	case w.Phase == v1alpha1.Deleted, w.Phase == v1alpha1.Rejected:
		return false
	case v.Spec.Deletion != nil, w.Phase == v1alpha1.Pending:
		return true
	}
	return v.Spec.Size.Cmp(w.Size) > 0
}

// handle is the queue's work.
func (a *Agent) handle(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, reclaimPrefix); ok {
		return a.reclaim(ctx, name)
	}
	ctx = step.WithVolume(ctx, key)
	record, err := a.config.Store.Volumes.Get(ctx, key)
	if fault.Is(err, fault.NotFound) {
		a.forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	if record.Spec.Worker.Host != a.config.Host || !wantsWork(record) {
		return nil
	}
	operation, work := "expand", a.expand
	switch {
	case record.Spec.Deletion != nil:
		operation, work = "delete", a.delete
	case record.Status.Worker.Phase == v1alpha1.Pending:
		operation, work = "create", a.create
	}
	began := a.config.Now()
	err = work(ctx, record)
	a.observe(operation, began, err)
	if err == nil {
		a.config.Set.Kick(record.Spec.Datastore)
		return nil
	}
	if ctx.Err() != nil {
		// The process ends; the next one goes on from the record.
		return err
	}
	logger(ctx).Error(err, "Work on a volume failed", "operation", operation, "volume", key, "datastore", record.Spec.Datastore)
	return a.fail(ctx, record, err)
}

func (a *Agent) create(ctx context.Context, record *v1alpha1.DatastoreVolume) error {
	name := record.Spec.Datastore
	pool, err := a.config.Set.Pool(ctx, name)
	if err != nil {
		return a.finishWithoutDatastore(ctx, record, v1alpha1.Rejected, err)
	}
	// The pool's identity is kept before anything lies on it: from then on an empty mount point is never
	// taken for the pool.
	if err := a.reportPool(ctx, name); err != nil {
		return err
	}
	volume := datastore.FromRecord(record)
	made, err := a.make(ctx, pool, record, volume)
	if fault.Is(err, fault.Exhausted) || fault.Is(err, fault.Invalid) {
		return a.reject(ctx, pool, record, err)
	}
	if err != nil {
		return err
	}
	return a.setStatus(ctx, record, func(s *v1alpha1.WorkerStatus) {
		s.Phase, s.Failure = v1alpha1.Ready, nil
		s.Size, s.Location, s.Identity = v1alpha1.Bytes(made.Bytes), made.Location, made.Identity
	})
}

// make carves the volume where there is room. One that was carved already, by a try that died before it
// could say so, has its room and is never judged again.
func (a *Agent) make(ctx context.Context, pool datastore.Pool, record *v1alpha1.DatastoreVolume, volume datastore.Volume) (datastore.Made, error) {
	refused := a.reserve(ctx, record)
	if refused == nil {
		return pool.Create(ctx, volume, nil, nil)
	}
	if !fault.Is(refused, fault.Exhausted) {
		return datastore.Made{}, refused
	}
	made, err := pool.Find(ctx, volume)
	if fault.Is(err, fault.NotFound) {
		return made, refused
	}
	if err == nil {
		a.ledger(record.Spec.Datastore).Set(record.Name, made.Bytes)
	}
	return made, err
}

// finishWithoutDatastore ends a record that was made while its datastore was being removed: nothing can have
// been carved for it, since a datastore that has volumes is not removed. Other records, and other errors,
// stay as they are.
func (a *Agent) finishWithoutDatastore(ctx context.Context, record *v1alpha1.DatastoreVolume, phase v1alpha1.Phase, why error) error {
	if !fault.Is(why, fault.NotFound) || record.Status.Worker.Phase != v1alpha1.Pending {
		return fault.As(fault.Unavailable, why)
	}
	if _, err := a.config.Store.Datastores.Get(ctx, record.Spec.Datastore); !fault.Is(err, fault.NotFound) {
		return fault.As(fault.Unavailable, why)
	}
	return a.setStatus(ctx, record, func(s *v1alpha1.WorkerStatus) {
		s.Phase, s.Failure = phase, failure(fault.As(fault.Exhausted, why), record.Generation)
	})
}

// reserve is the last judgement of space: what the pool can promise now, by this host's own account.
func (a *Agent) reserve(ctx context.Context, record *v1alpha1.DatastoreVolume) error {
	name := record.Spec.Datastore
	d, err := a.config.Store.Datastores.Get(ctx, name)
	if err != nil {
		return err
	}
	status := a.config.Set.Statuses()[name]
	if status.Health.Severity() >= v1alpha1.Critical.Severity() {
		return fault.New(fault.Exhausted, "datastore %q is %s: %s", name, status.Health, messages(status.Findings))
	}
	err = a.ledger(name).Reserve(record.Name, record.Spec.Size.Value(), datastore.Limits{
		Bytes: status.Promisable.Value(), MaxVolumes: d.Spec.Capacity.MaxVolumes,
	})
	return fault.Wrap(err, "promise space on datastore", name)
}

func messages(findings []v1alpha1.Finding) string {
	out := make([]string, len(findings))
	for i, f := range findings {
		out[i] = f.Message
	}
	return strings.Join(out, "; ")
}

// reject refuses a volume for good, of which nothing is there. What an earlier try left half made is removed.
func (a *Agent) reject(ctx context.Context, pool datastore.Pool, record *v1alpha1.DatastoreVolume, why error) error {
	if err := pool.Delete(ctx, datastore.FromRecord(record), datastore.Disposal{}); err != nil {
		return err
	}
	a.ledger(record.Spec.Datastore).Release(record.Name)
	a.queue.Add(record.Spec.Datastore, reclaimKey(record.Spec.Datastore))
	logger(ctx).Info("Rejected a volume", "volume", record.Name, "datastore", record.Spec.Datastore, "reason", why.Error())
	return a.setStatus(ctx, record, func(s *v1alpha1.WorkerStatus) {
		s.Phase, s.Failure = v1alpha1.Rejected, failure(why, record.Generation)
	})
}

func (a *Agent) expand(ctx context.Context, record *v1alpha1.DatastoreVolume) error {
	pool, err := a.config.Set.Pool(ctx, record.Spec.Datastore)
	if err != nil {
		return err
	}
	if err := a.reserve(ctx, record); err != nil {
		return err
	}
	made, err := pool.Expand(ctx, datastore.FromRecord(record))
	if fault.Is(err, fault.Exhausted) {
		// What it has stays promised; what it was to have is given back. After other errors it may have
		// grown all the same.
		a.ledger(record.Spec.Datastore).Set(record.Name, record.Status.Worker.Size.Value())
	}
	if err != nil {
		return err
	}
	return a.setStatus(ctx, record, func(s *v1alpha1.WorkerStatus) {
		s.Size, s.Failure = v1alpha1.Bytes(made.Bytes), nil
	})
}

func (a *Agent) delete(ctx context.Context, record *v1alpha1.DatastoreVolume) error {
	pool, err := a.config.Set.Pool(ctx, record.Spec.Datastore)
	if err != nil {
		return a.finishWithoutDatastore(ctx, record, v1alpha1.Deleted, err)
	}
	if err := pool.Delete(ctx, datastore.FromRecord(record), datastore.Disposal{}); err != nil {
		return err
	}
	err = a.setStatus(ctx, record, func(s *v1alpha1.WorkerStatus) { s.Phase, s.Failure = v1alpha1.Deleted, nil })
	if err != nil {
		return err
	}
	a.ledger(record.Spec.Datastore).Release(record.Name)
	a.queue.Add(record.Spec.Datastore, reclaimKey(record.Spec.Datastore))
	return nil
}

func (a *Agent) reclaim(ctx context.Context, name string) error {
	pool, err := a.config.Set.Pool(ctx, name)
	if err != nil {
		// A pool that is not there has nothing to reclaim; its next change brings this work back.
		return ignore(err, fault.NotFound)
	}
	began := a.config.Now()
	err = pool.Reclaim(ctx)
	if err != nil && ctx.Err() != nil {
		return err
	}
	a.observe("reclaim", began, err)
	if err != nil {
		logger(ctx).Error(err, "Reclaiming space failed", "datastore", name)
		return err
	}
	a.config.Set.Kick(name)
	return nil
}

// setStatus writes the worker's part of a record. A record that is gone or another one by now needs none.
func (a *Agent) setStatus(ctx context.Context, record *v1alpha1.DatastoreVolume, set func(*v1alpha1.WorkerStatus)) error {
	_, err := store.ChangeStatus(ctx, a.config.Store.Volumes, record.Name, func(v *v1alpha1.DatastoreVolume) error {
		if v.UID != record.UID {
			return store.Unchanged()
		}
		set(&v.Status.Worker)
		v.Status.Worker.ObservedGeneration = record.Generation
		return nil
	})
	return ignore(err, fault.NotFound)
}

// fail writes why the work failed, once for each reason, and returns the error for the queue's back-off.
// Work that was busy elsewhere did not fail.
func (a *Agent) fail(ctx context.Context, record *v1alpha1.DatastoreVolume, why error) error {
	if fault.Is(why, fault.Busy) {
		return why
	}
	f := failure(why, record.Generation)
	_, err := store.ChangeStatus(ctx, a.config.Store.Volumes, record.Name, func(v *v1alpha1.DatastoreVolume) error {
		if old := v.Status.Worker.Failure; v.UID != record.UID || (old != nil && *old == *f) {
			return store.Unchanged()
		}
		v.Status.Worker.Failure = f
		return nil
	})
	if err := ignore(err, fault.NotFound); err != nil {
		return err
	}
	return why
}

func failure(err error, generation int64) *v1alpha1.Failure {
	return &v1alpha1.Failure{Reason: fault.KindOf(err).String(), Message: err.Error(), ObservedGeneration: generation}
}

func ignore(err error, k fault.Kind) error {
	if fault.Is(err, k) {
		return nil
	}
	return err
}
