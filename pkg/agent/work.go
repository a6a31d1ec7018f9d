package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// reclaimPrefix tells a datastore's reclaim work from a volume and a snapshot.
const reclaimPrefix = "reclaim/"

// Long work has groups of its own, so that it keeps nothing else of its datastore waiting.
const (
	copyGroup    = "/copy"
	reclaimGroup = "/reclaim"
)

// group returns the queue's group for the work on a record.
func (a *Agent) group(s *subject) string {
	if s.deletion == nil && s.source != nil && s.unmade() && !a.copiesInUse(s) {
		return s.on + copyGroup
	}
	return s.on
}

// Wake has failed work on a volume or snapshot tried again now. Only work that waits for its next try is woken.
func (a *Agent) Wake(key string) { a.queue.Wake(key) }

// reclaimSoon has what was deleted on a datastore wiped and freed.
func (a *Agent) reclaimSoon(name string) { a.queue.Add(name+reclaimGroup, reclaimPrefix+name) }

// handle is the queue's work.
func (a *Agent) handle(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, reclaimPrefix); ok {
		return a.reclaim(ctx, name)
	}
	if name, ok := strings.CutPrefix(key, auditPrefix); ok {
		return a.audit(ctx, name)
	}
	ctx = step.WithVolume(ctx, key)
	id, snapshot := datastore.ParseKey(key)
	s, err := a.tableOf(snapshot).get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		a.forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	if s.host != a.config.Host || !s.wantsWork() {
		return nil
	}
	operation, work := a.workOn(s)
	began := a.config.Now()
	err = work(ctx, s)
	if errors.Is(err, errWithdrawn) {
		a.queue.Add(s.on, key) // its deletion waited for this
		return nil
	}
	a.observe(operation, began, err)
	if err == nil {
		a.config.Set.Kick(s.on)
		return nil
	}
	if ctx.Err() != nil {
		// The process ends; the next one goes on from the record.
		return err
	}
	logger(ctx).Error(err, "Work on a "+s.kind()+" failed", "operation", operation, "key", s.Key(), "datastore", s.on)
	return a.fail(ctx, s, err)
}

// workOn returns what a record wants, and its name among the operations.
func (a *Agent) workOn(s *subject) (operation string, work func(context.Context, *subject) error) {
	switch {
	case s.deletion != nil:
		return "delete", a.delete
	case !s.unmade() && s.Bytes > s.status.Size.Value():
		return "expand", a.expand
	case !s.unmade():
		return "modify", a.expand
	case s.Snapshot:
		return "snapshot", a.create
	case s.source != nil:
		return "copy", a.create
	}
	return "create", a.create
}

// finishWithoutDatastore ends a record that was made while its datastore was being removed: nothing can have
// been carved for it, since a datastore that has volumes is not removed. Other records, and other errors,
// stay as they are.
func (a *Agent) finishWithoutDatastore(ctx context.Context, s *subject, phase v1alpha1.Phase, why error) error {
	if !fault.Is(why, fault.NotFound) || s.status.Phase != v1alpha1.Pending {
		return fault.As(fault.Unavailable, why)
	}
	if _, err := a.config.Store.Datastores.Get(ctx, s.on); !fault.Is(err, fault.NotFound) {
		return fault.As(fault.Unavailable, why)
	}
	return a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) {
		w.Phase, w.Failure = phase, failure(fault.As(fault.Exhausted, why), s.generation)
	})
}

// reserve is the last judgement of space: what the pool can promise now, by this host's own account.
func (a *Agent) reserve(ctx context.Context, s *subject, bytes int64) error {
	d, err := a.config.Store.Datastores.Get(ctx, s.on)
	if err != nil {
		return err
	}
	if err := a.awaitAudit(ctx, s.on); err != nil {
		return err
	}
	status := a.config.Set.Statuses()[s.on]
	if status.Health.Severity() >= v1alpha1.Critical.Severity() {
		return fault.New(fault.Exhausted, "datastore %q is %s: %s", s.on, status.Health, messages(status.Findings))
	}
	err = a.ledger(s.on).Reserve(s.Key(), bytes, datastore.Limits{
		Bytes: status.Promisable.Value(), MaxVolumes: d.Spec.Capacity.MaxVolumes,
	})
	return fault.Wrap(err, "promise space on datastore", s.on)
}

func messages(findings []v1alpha1.Finding) string {
	out := make([]string, len(findings))
	for i, f := range findings {
		out[i] = f.Message
	}
	return strings.Join(out, "; ")
}

// expand makes a volume larger, and its mark say what its record says.
func (a *Agent) expand(ctx context.Context, s *subject) error {
	pool, err := a.config.Set.Pool(ctx, s.on)
	if err != nil {
		return err
	}
	if s.Bytes > s.status.Size.Value() {
		if err := a.reserve(ctx, s, s.Takes()); err != nil {
			return err
		}
	}
	made, err := pool.Expand(ctx, s.Volume)
	if fault.Is(err, fault.Exhausted) {
		// What it has stays promised; what it was to have is given back. After other errors it may have
		// grown all the same.
		a.ledger(s.on).Set(s.Key(), max(s.status.Size.Value(), s.status.Promised.Value()))
	}
	if err != nil {
		return err
	}
	return a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) {
		says := s.marked()
		w.Size, w.Promised, w.Marked, w.Failure = v1alpha1.Bytes(made.Bytes), v1alpha1.Bytes(made.Takes), &says, nil
	})
}

func (a *Agent) delete(ctx context.Context, s *subject) error {
	pool, err := a.config.Set.Pool(ctx, s.on)
	if err != nil {
		return a.finishWithoutDatastore(ctx, s, v1alpha1.Deleted, err)
	}
	if err := pool.Delete(ctx, s.Volume, datastore.Disposal{Policy: s.deletion.Policy, Wipe: s.deletion.Wipe}); err != nil {
		return err
	}
	err = a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) { w.Phase, w.Progress, w.Failure = v1alpha1.Deleted, nil, nil })
	if err != nil {
		return err
	}
	a.ledger(s.on).Release(s.Key())
	a.reclaimSoon(s.on)
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
func (a *Agent) setStatus(ctx context.Context, s *subject, set func(*v1alpha1.WorkerStatus)) error {
	return s.table.alter(ctx, s, func(w *v1alpha1.WorkerStatus) bool {
		set(w)
		w.ObservedGeneration = s.generation
		return true
	})
}

// fail writes why the work failed, once for each reason, and returns the error for the queue's back-off.
// Work that was busy elsewhere did not fail.
func (a *Agent) fail(ctx context.Context, s *subject, why error) error {
	if fault.Is(why, fault.Busy) {
		return why
	}
	f := failure(why, s.generation)
	err := s.table.alter(ctx, s, func(w *v1alpha1.WorkerStatus) bool {
		if w.Failure != nil && *w.Failure == *f {
			return false
		}
		w.Failure = f
		return true
	})
	if err != nil {
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
