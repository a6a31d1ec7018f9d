package agent

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// auditPrefix tells a datastore's audit from other work.
const (
	auditPrefix = "audit/"
	auditGroup  = "/audit"
)

// AuditSoon has what lies on a datastore compared with the records. What was found stands in the pool's
// status and in the records; nothing is ever deleted for it.
func (a *Agent) AuditSoon(name string) { a.queue.Add(name+auditGroup, auditPrefix+name) }

// Refresh measures all pools soon, and compares what lies on them with the records.
func (a *Agent) Refresh() {
	for name := range a.config.Set.Statuses() {
		a.config.Set.Kick(name)
		a.AuditSoon(name)
	}
}

// auditAll audits every datastore now and then until ctx ends, beside those whose record changes.
func (a *Agent) auditAll(ctx context.Context) error {
	if a.config.AuditEvery <= 0 {
		return nil
	}
	tick := time.NewTicker(a.config.AuditEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for name := range a.config.Set.Statuses() {
			a.AuditSoon(name)
		}
	}
}

// auditOrphaned audits the datastores that report what a record was about that is gone now.
func (a *Agent) auditOrphaned(key string) {
	id, _ := datastore.ParseKey(key)
	for name, pool := range a.config.Set.Statuses() {
		if slices.ContainsFunc(pool.Orphans, func(o v1alpha1.Orphan) bool { return o.Name == id }) {
			a.AuditSoon(name)
		}
	}
}

// audited is closed after a datastore's first audit.
func (a *Agent) audited(name string) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.audits[name]
	if c == nil {
		c = make(chan struct{})
		a.audits[name] = c
	}
	return c
}

// awaitAudit waits for the first audit of a pool that nobody here knew, or that had orphans: what they take
// must not be promised again.
func (a *Agent) awaitAudit(ctx context.Context, name string) error {
	a.mu.Lock()
	known := a.known[name]
	a.mu.Unlock()
	first := a.audited(name)
	if known || closed(first) {
		return nil
	}
	a.AuditSoon(name) // the last try may have found no pool
	select {
	case <-first:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// audit compares what lies on a pool with the records.
func (a *Agent) audit(ctx context.Context, name string) error {
	pool, err := a.config.Set.Pool(ctx, name)
	if err != nil {
		// One that is not there is audited when it changes; one that is unavailable is tried again.
		return ignore(err, fault.NotFound)
	}
	began := a.config.Now()
	audit, problems, err := a.compare(ctx, pool, name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.observe("audit", began, err)
	if err != nil {
		logger(ctx).Error(err, "Comparing a datastore with its records failed", "datastore", name)
	} else {
		a.config.Set.Audited(name, audit)
	}
	if first := a.audited(name); !closed(first) {
		close(first) // one audit of a datastore runs at a time
	}
	if err != nil {
		return err
	}
	return a.tellProblems(ctx, name, problems)
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// compare returns what the pool and the records differ in. What differs at first is looked at again, live:
// volumes are made and removed meanwhile.
func (a *Agent) compare(ctx context.Context, pool datastore.Pool, name string) (datastore.Audit, map[string][]v1alpha1.Problem, error) {
	found, err := pool.List(ctx)
	if err != nil {
		return datastore.Audit{}, nil, err
	}
	ours, err := a.subjectsOn(ctx, name)
	if err != nil {
		return datastore.Audit{}, nil, err
	}
	expected := make([]datastore.Expected, len(ours))
	for i, s := range ours {
		expected[i] = s.expected()
	}
	first := datastore.Compare(found, expected)
	second := datastore.Comparison{Unclear: first.Unclear, Lost: first.Lost, Problems: first.Problems}
	for _, f := range first.Unrecorded {
		orphan, err := a.unrecorded(ctx, pool, f)
		if err != nil {
			return datastore.Audit{}, nil, err
		}
		if orphan {
			second.Unrecorded = append(second.Unrecorded, f)
		}
	}
	for _, e := range first.Missing {
		missing, problems, err := a.missing(ctx, pool, e)
		if err != nil {
			return datastore.Audit{}, nil, err
		}
		switch {
		case missing:
			second.Missing = append(second.Missing, e)
		case len(problems) > 0:
			second.Problems[e.Key()] = problems
		default:
			delete(second.Problems, e.Key())
		}
	}
	return second.Audit(), second.Problems, nil
}

// subjectsOn returns this host's records of a datastore.
func (a *Agent) subjectsOn(ctx context.Context, name string) ([]*subject, error) {
	all, err := a.subjects(ctx)
	out := all[:0]
	for _, s := range all {
		if s.on == name {
			out = append(out, s)
		}
	}
	return out, err
}

// expected is what a record says of the storage.
func (s *subject) expected() datastore.Expected {
	return datastore.Expect(s.Volume, *s.status, s.deletion)
}

// unrecorded tells whether something is there whose record is gone before: a record does not come back.
func (a *Agent) unrecorded(ctx context.Context, pool datastore.Pool, f datastore.Found) (bool, error) {
	s, err := a.tableOf(f.Volume.Snapshot).get(ctx, f.Volume.ID)
	if err == nil && s.UID == f.Volume.UID {
		return false, nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid) {
		return false, err
	}
	_, err = pool.Find(ctx, f.Volume)
	switch {
	case err == nil:
		return true, nil
	case fault.Is(err, fault.Unavailable):
		return false, err
	}
	return false, nil // gone, or being worked on
}

// missing tells whether something is not there that nobody has asked to be deleted, neither before nor after. Where it
// can't be told, since the part of the pool that it lies on isn't there, that is the problem of it.
func (a *Agent) missing(ctx context.Context, pool datastore.Pool, e datastore.Expected) (bool, []v1alpha1.Problem, error) {
	there := func() (bool, error) {
		s, err := a.tableOf(e.Snapshot).get(ctx, e.ID)
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		return err == nil && s.UID == e.UID && s.expected().There, err
	}
	if expected, err := there(); err != nil || !expected {
		return false, nil, err
	}
	_, err := pool.Find(ctx, e.Volume)
	switch {
	case fault.Is(err, fault.NotFound):
		gone, err := there()
		return gone, nil, err
	case fault.Is(err, fault.Unavailable):
		problems, unknown := datastore.Examine(ctx, pool, e.Volume)
		if unknown != nil || len(problems) == 0 {
			return false, nil, err
		}
		return false, problems, nil
	}
	return false, nil, nil
}

// tellProblems writes what is wrong with volumes and snapshots into their records, where it has changed.
func (a *Agent) tellProblems(ctx context.Context, name string, problems map[string][]v1alpha1.Problem) error {
	ours, err := a.subjectsOn(ctx, name)
	if err != nil {
		return err
	}
	for _, s := range ours {
		now := problems[s.Key()]
		if equality.Semantic.DeepEqual(s.status.Problems, now) {
			continue
		}
		if len(now) > 0 {
			logger(ctx).Info("Something is wrong with a "+s.kind(), "key", s.Key(), "datastore", name, "problem", now[0].Message)
		}
		err := s.table.alter(ctx, s, func(w *v1alpha1.WorkerStatus) bool {
			if equality.Semantic.DeepEqual(w.Problems, now) {
				return false
			}
			w.Problems = now
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}
