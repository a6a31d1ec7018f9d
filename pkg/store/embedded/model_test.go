package embedded_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// modelled is what the model knows of a record.
type modelled struct {
	spec, status, generation int64
	held, marked             bool
	uid                      string
}

// model is a table of the simplest kind, and the store that must do the same.
type model struct {
	config  embedded.Config
	db      *embedded.DB
	volumes store.Table[v1alpha1.DatastoreVolume]
	records map[string]modelled
	stale   []*v1alpha1.DatastoreVolume // versions that were overwritten
}

func (m *model) open(t *rapid.T) {
	db, err := embedded.Open(t.Context(), m.config)
	if err != nil {
		t.Fatal(err)
	}
	m.db, m.volumes = db, db.Store().Volumes
}

func (m *model) close(t *rapid.T) {
	if err := m.db.Close(); err != nil {
		t.Fatal(err)
	}
}

func name(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d.e"}).Draw(t, "name")
}

// want fails unless err is what the model says: nil, or of a kind.
func want(t *rapid.T, err error, ok bool, kind fault.Kind) {
	if ok && err != nil || !ok && !fault.Is(err, kind) {
		t.Fatalf("got error %v", err)
	}
}

func (m *model) create(t *rapid.T) {
	n, held := name(t), rapid.Bool().Draw(t, "held")
	v := &v1alpha1.DatastoreVolume{}
	v.Name = n
	if held {
		v.Finalizers = []string{v1alpha1.Finalizer}
	}
	_, taken := m.records[n]
	made, err := m.volumes.Create(t.Context(), v)
	want(t, err, !taken, fault.Exists)
	if err == nil {
		m.records[n] = modelled{generation: 1, held: held, uid: string(made.UID)}
	}
}

func (m *model) update(t *rapid.T) {
	n, spec, hold := name(t), rapid.Int64Range(0, 3).Draw(t, "spec"), rapid.Bool().Draw(t, "hold")
	r, there := m.records[n]
	if hold && !r.held && r.marked {
		return // storetest has it
	}
	before, _ := m.volumes.Get(t.Context(), n)
	_, err := store.Change(t.Context(), m.volumes, n, func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Worker.Epoch, v.Finalizers, v.Status.Worker.ObservedGeneration = spec, nil, 99
		if hold {
			v.Finalizers = []string{v1alpha1.Finalizer}
		}
		return nil
	})
	want(t, err, there, fault.NotFound)
	if !there {
		return
	}
	m.remember(t, n, before)
	if r.marked && !hold {
		delete(m.records, n)
		return
	}
	if r.spec != spec {
		r.generation++
	}
	r.spec, r.held = spec, hold
	m.records[n] = r
}

func (m *model) updateStatus(t *rapid.T) {
	n, status := name(t), rapid.Int64Range(0, 3).Draw(t, "status")
	r, there := m.records[n]
	before, _ := m.volumes.Get(t.Context(), n)
	_, err := store.ChangeStatus(t.Context(), m.volumes, n, func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Worker.Epoch, v.Finalizers, v.Status.Worker.ObservedGeneration = 99, nil, status
		return nil
	})
	want(t, err, there, fault.NotFound)
	if there {
		m.remember(t, n, before)
		r.status = status
		m.records[n] = r
	}
}

// remember keeps a version that is no longer the present one.
func (m *model) remember(t *rapid.T, n string, before *v1alpha1.DatastoreVolume) {
	now, err := m.volumes.Get(t.Context(), n)
	if err != nil || now.ResourceVersion != before.ResourceVersion {
		m.stale = append(m.stale, before)
	}
}

func (m *model) updateStale(t *rapid.T) {
	if len(m.stale) == 0 {
		return
	}
	old := m.stale[rapid.IntRange(0, len(m.stale)-1).Draw(t, "stale")]
	_, there := m.records[old.Name]
	kind := fault.NotFound
	if there {
		kind = fault.Conflict
	}
	_, err := m.volumes.Update(t.Context(), old)
	want(t, err, false, kind)
	_, err = m.volumes.UpdateStatus(t.Context(), old)
	want(t, err, false, kind)
}

func (m *model) delete(t *rapid.T) {
	n, uid := name(t), rapid.SampledFrom([]string{"", "right", "wrong"}).Draw(t, "uid")
	r, there := m.records[n]
	if uid == "right" {
		uid = r.uid
	}
	err := m.volumes.Delete(t.Context(), n, uid)
	switch {
	case !there:
		want(t, err, false, fault.NotFound)
		return
	case uid == "wrong":
		want(t, err, false, fault.Conflict)
		return
	}
	want(t, err, true, 0)
	if !r.held {
		delete(m.records, n)
		return
	}
	if !r.marked {
		r.marked = true
		r.generation++
	}
	m.records[n] = r
}

func (m *model) reopen(t *rapid.T) {
	m.close(t)
	m.open(t)
}

// check compares all that there is.
func (m *model) check(t *rapid.T) {
	all, err := m.volumes.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]modelled{}
	names := []string{}
	for _, v := range all {
		names = append(names, v.Name)
		got[v.Name] = modelled{
			spec: v.Spec.Worker.Epoch, status: v.Status.Worker.ObservedGeneration, generation: v.Generation,
			held: len(v.Finalizers) > 0, marked: v.DeletionTimestamp != nil, uid: string(v.UID),
		}
		if live, err := m.volumes.Get(t.Context(), v.Name); err != nil || live != v {
			t.Fatalf("get of %s: %v", v.Name, err)
		}
	}
	if !maps.Equal(got, m.records) || !slices.IsSorted(names) {
		t.Fatalf("the store has %v, want %v", got, m.records)
	}
}

func TestAStoreDoesWhatASimpleModelDoes(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		uids := 0
		m := &model{config: config(dir + "/" + strconv.Itoa(n)), records: map[string]modelled{}}
		m.config.NewUID = func() string { uids++; return fmt.Sprintf("uid-%d", uids) }
		m.open(t)
		defer func() { m.close(t) }()
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "update": m.update, "update status": m.updateStatus, "update of an old version": m.updateStale,
			"delete": m.delete, "reopen": m.reopen, "": m.check,
		})
	})
}
