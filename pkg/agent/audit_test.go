package agent_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// audit has datastore a audited, and returns when that is over: the next audit has begun.
func (r *rig) audit(t *testing.T) {
	t.Helper()
	r.auditBegins(t)
	r.auditBegins(t)
}

// auditBegins has datastore a audited, and returns when it is listed.
func (r *rig) auditBegins(t *testing.T) {
	t.Helper()
	m := r.pools["a"]
	m.mu.Lock()
	before := m.lists
	m.mu.Unlock()
	r.AuditSoon("a")
	for {
		m.mu.Lock()
		lists, again := m.lists, m.again
		m.mu.Unlock()
		if lists > before {
			return
		}
		select {
		case <-again:
		case <-time.After(soon):
			t.Fatal("no audit")
		}
	}
}

// pool waits until the host's record says of datastore a what is wanted.
func (r *rig) pool(t *testing.T, what string, wanted func(v1alpha1.PoolStatus) bool) v1alpha1.PoolStatus {
	t.Helper()
	h := await(t, r.store.Hosts, host, what, func(h *v1alpha1.DatastoreHost) bool { return wanted(h.Status.Pools["a"]) })
	return h.Status.Pools["a"]
}

func orphans(n int) func(v1alpha1.PoolStatus) bool {
	return func(p v1alpha1.PoolStatus) bool { return p.UUID != "" && len(p.Orphans) == n }
}

func TestStorageWithoutARecordIsReportedAndItsSpaceNotPromisedAgain(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.pools["a"].put("lost", 4*gib)
		r.pools["a"].put("snapshot/lost", gib)
	})
	p := r.pool(t, "reported", orphans(2))
	for _, o := range p.Orphans {
		if o.Kind != v1alpha1.NoRecord || o.Name != "lost" {
			t.Errorf("orphan %+v", o)
		}
	}
	if p.Health != v1alpha1.Warning || len(p.Findings) != 1 || p.Findings[0].Reason != "Orphans" {
		t.Errorf("health %s, findings %+v", p.Health, p.Findings)
	}
	r.create(t, record("big", "a", 5*gib)) // of 10 GiB, less the reserve and the orphans
	refused(t, r.await(t, "big", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.Exhausted, "can still be promised")
	r.create(t, record("small", "a", 4*gib))
	r.await(t, "small", "ready", phase(v1alpha1.Ready))
	r.pools["a"].set(func(m *memory) { // by hand
		delete(m.things, "lost")
		delete(m.things, "snapshot/lost")
	})
	r.audit(t)
	if p := r.pool(t, "mended", orphans(0)); p.Health != v1alpha1.Healthy {
		t.Errorf("health %s, findings %+v", p.Health, p.Findings)
	}
	r.create(t, record("more", "a", 5*gib))
	r.await(t, "more", "ready", phase(v1alpha1.Ready))
}

func TestNothingIsPromisedOfAPoolThatIsNewHereBeforeItsFirstAudit(t *testing.T) {
	listing, listed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(r *rig) {
		r.pools["a"].put("lost", 9*gib)
		begun := sync.OnceFunc(func() { close(listing) })
		r.pools["a"].listed = func() { begun(); <-listed }
	})
	<-listing
	r.create(t, record("v", "a", 2*gib))
	r.create(t, record("w", "b", gib)) // the other one is not waited for
	r.await(t, "w", "ready", phase(v1alpha1.Ready))
	close(listed)
	refused(t, r.await(t, "v", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.Exhausted, "can still be promised")
}

func TestARecordWithoutStorageIsReportedUntilItIsMended(t *testing.T) {
	r := newRig(t, instant)
	source := r.source(t)
	r.snapshot(t, "s", source)
	r.awaitSnapshot(t, "s", v1alpha1.Ready)
	var taken map[string]datastore.Found
	r.pools["a"].set(func(m *memory) { taken, m.things = m.things, map[string]datastore.Found{} })
	r.audit(t)
	p := r.pool(t, "reported", orphans(2))
	if p.Orphans[0].Kind != v1alpha1.NoStorage || p.Findings[0].Reason != "StorageMissing" || p.Health != v1alpha1.Warning {
		t.Errorf("pool %+v", p)
	}
	v := r.await(t, "source", "known to be gone", func(v *v1alpha1.DatastoreVolume) bool { return len(v.Status.Worker.Problems) == 1 })
	if w := v.Status.Worker; w.Problems[0].Reason != "StorageMissing" || w.Problems[0].Status != "DATA_LOSS" || w.Phase != v1alpha1.Ready {
		t.Errorf("status %+v", w)
	}
	await(t, r.store.Snapshots, "s", "known to be gone", func(s *v1alpha1.DatastoreSnapshot) bool { return len(s.Status.Worker.Problems) == 1 })
	r.pools["a"].set(func(m *memory) { m.things = taken })
	r.audit(t)
	r.pool(t, "mended", orphans(0))
	r.await(t, "source", "mended", func(v *v1alpha1.DatastoreVolume) bool { return len(v.Status.Worker.Problems) == 0 })
	await(t, r.store.Snapshots, "s", "mended", func(s *v1alpha1.DatastoreSnapshot) bool { return len(s.Status.Worker.Problems) == 0 })
}

func TestADeletedRecordIsNoOrphanAnyMore(t *testing.T) {
	r := newRig(t)
	r.source(t)
	r.pools["a"].set(func(m *memory) { m.things = map[string]datastore.Found{} })
	r.audit(t)
	r.pool(t, "reported", orphans(1))
	r.change(t, "source", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
	r.await(t, "source", "deleted", phase(v1alpha1.Deleted))
	r.remove(t, "source")
	r.pool(t, "mended", orphans(0))
}

func TestWhatIsWrongWithAVolumeIsWrittenOnceAndCleared(t *testing.T) {
	r := newRig(t)
	r.source(t)
	damage := func(problems ...v1alpha1.Problem) {
		r.pools["a"].set(func(m *memory) {
			f := m.things["source"]
			f.Problems = problems
			m.things["source"] = f
		})
		r.audit(t)
	}
	damage(v1alpha1.Problem{Status: "DEGRADED", Reason: "Sparse", Message: "holes"})
	v := r.await(t, "source", "degraded", func(v *v1alpha1.DatastoreVolume) bool { return len(v.Status.Worker.Problems) == 1 })
	r.audit(t)
	now, err := r.store.Volumes.Get(t.Context(), "source")
	if err != nil || now.ResourceVersion != v.ResourceVersion {
		t.Errorf("it was written again: %v", err)
	}
	damage()
	r.await(t, "source", "mended", func(v *v1alpha1.DatastoreVolume) bool { return len(v.Status.Worker.Problems) == 0 })
}

func TestWhatComesAndGoesDuringAnAuditIsNoOrphan(t *testing.T) {
	r := newRig(t)
	r.source(t)
	r.audit(t)
	var once sync.Once
	r.pools["a"].set(func(m *memory) {
		m.listed = func() {
			once.Do(func() {
				// What is there by now goes, its record too; what is not there yet comes.
				r.change(t, "source", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
				r.await(t, "source", "deleted", phase(v1alpha1.Deleted))
				r.remove(t, "source")
				r.create(t, record("new", "a", gib))
				r.await(t, "new", "ready", phase(v1alpha1.Ready))
				// A datastore that needs work elsewhere in the meantime.
				r.create(t, record("leaving", "a", gib))
				r.await(t, "leaving", "ready", phase(v1alpha1.Ready))
				r.change(t, "leaving", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
				r.await(t, "leaving", "deleted", phase(v1alpha1.Deleted))
			})
		}
	})
	r.audit(t)
	h, err := r.store.Hosts.Get(t.Context(), host)
	if err != nil || len(h.Status.Pools["a"].Orphans) > 0 {
		t.Errorf("%v, %+v", err, h.Status.Pools["a"])
	}
	for _, p := range r.statuses() {
		if len(p.Orphans) > 0 || len(p.Findings) > 0 {
			t.Errorf("pool %+v", p)
		}
	}
}

// remove takes a record away, as the controller does.
func (r *rig) remove(t *testing.T, name string) {
	t.Helper()
	if err := r.store.Volumes.Delete(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Change(t.Context(), r.store.Volumes, name, func(v *v1alpha1.DatastoreVolume) error {
		v.Finalizers = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAnAuditThatFailsAccusesNobody(t *testing.T) {
	r := newRig(t)
	r.source(t)
	r.audit(t)
	r.pools["a"].set(func(m *memory) { m.fail, m.things = fault.New(fault.Unavailable, "cable pulled"), nil })
	r.audit(t)
	v, err := r.store.Volumes.Get(t.Context(), "source")
	if err != nil || len(v.Status.Worker.Problems) > 0 {
		t.Errorf("%v, %+v", err, v.Status.Worker)
	}
	if p := r.statuses()["a"]; len(p.Orphans) > 0 {
		t.Errorf("pool %+v", p)
	}
}

func TestARecordListsSomeOrphansAndTheirFindingCountsAll(t *testing.T) {
	r := newRig(t, func(r *rig) {
		for i := range 150 {
			r.pools["a"].put("v-"+strings.Repeat("x", i+1)[:i%50+1]+string(rune('a'+i/50)), 1)
		}
	})
	p := r.pool(t, "reported", orphans(100))
	if !strings.HasPrefix(p.Findings[0].Message, "150 volumes") {
		t.Errorf("findings %+v", p.Findings)
	}
	if got := len(r.statuses()["a"].Orphans); got != 150 {
		t.Errorf("%d orphans are known", got)
	}
}

func TestADatastoreIsAuditedNowAndThen(t *testing.T) {
	r := newRig(t, func(r *rig) { r.config.AuditEvery = time.Millisecond })
	r.pool(t, "whole", orphans(0))
	r.pools["a"].put("v", 1)
	r.pool(t, "audited", orphans(1))
}
