package agent_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/agent"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const (
	host = "node-1"
	gib  = int64(1 << 30)
	soon = 20 * time.Second
)

// memory is a pool that keeps its volumes in memory: a double for the agent's logic.
type memory struct {
	mu      sync.Mutex
	volumes map[string]int64
	creates int
	fail    error
	// hang, where set, blocks Create until it is closed.
	hang chan struct{}
}

func (m *memory) Status(context.Context) (datastore.Status, error) {
	return datastore.Status{UUID: "pool-uuid", Total: 10 * gib, Free: 10 * gib}, nil
}

func (m *memory) Create(_ context.Context, v datastore.Volume, _ *datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	if m.hang != nil {
		<-m.hang
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.creates++
	if m.fail != nil {
		return datastore.Made{}, m.fail
	}
	m.volumes[v.ID] = v.Bytes
	return datastore.Made{Bytes: v.Bytes, Location: v.BackendName(), Identity: v.UID}, nil
}

func (m *memory) Find(_ context.Context, v datastore.Volume) (datastore.Made, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes, ok := m.volumes[v.ID]
	if !ok {
		return datastore.Made{}, fault.New(fault.NotFound, "no volume %q", v.ID)
	}
	return datastore.Made{Bytes: bytes, Location: v.BackendName(), Identity: v.UID}, nil
}

func (m *memory) Expand(_ context.Context, v datastore.Volume) (datastore.Made, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volumes[v.ID] = max(m.volumes[v.ID], v.Bytes)
	return datastore.Made{Bytes: m.volumes[v.ID]}, m.fail
}

func (m *memory) Snapshot(context.Context, datastore.Volume, datastore.Volume, datastore.Progress) (datastore.Made, error) {
	return datastore.Made{}, fault.New(fault.Invalid, "none here")
}

func (m *memory) List(context.Context) ([]datastore.Found, error) { return nil, nil }

func (m *memory) Delete(_ context.Context, v datastore.Volume, _ datastore.Disposal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.volumes, v.ID)
	return nil
}

func (m *memory) Reclaim(context.Context) error { return nil }

func (m *memory) Open(context.Context, datastore.Volume, bool) (datastore.Opened, error) {
	return datastore.Opened{}, fault.New(fault.Internal, "the agent opens nothing")
}

func (m *memory) Close(context.Context, datastore.Volume) error { return nil }

func (m *memory) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.volumes))
}

// rig is an agent at work on two datastores, "a" and "b".
type rig struct {
	store *store.Store
	pools map[string]*memory
}

func newRig(t *testing.T, prepare ...func(*rig)) *rig {
	t.Helper()
	db, err := embedded.Open(t.Context(), embedded.Config{
		Path: filepath.Join(t.TempDir(), "records.db"), Owner: embedded.Owner{Host: host, MachineID: "m"},
		Now: time.Now, NewUID: uuid.NewString,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{store: db.Store(), pools: map[string]*memory{"a": {volumes: map[string]int64{}}, "b": {volumes: map[string]int64{}}}}
	for name := range r.pools {
		d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.DatastoreSpec{Type: "memory"}}
		d.SetDefaults()
		if _, err := r.store.Datastores.Create(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range prepare {
		p(r)
	}
	set := datastore.NewSet(datastore.SetConfig{
		Types: []datastore.Type{{Name: "memory", New: func(_ context.Context, c datastore.Config) (datastore.Pool, error) {
			return r.pools[c.Datastore.Name], nil
		}}},
		Host: host, Interval: time.Minute, Patience: 5 * time.Second, Tools: datastore.Tools{Now: time.Now},
	})
	a := agent.New(agent.Config{Host: host, MachineID: "m", BootID: "b", Store: r.store, Set: set, Workers: 2, Now: time.Now})
	ctx, cancel := context.WithCancel(t.Context())
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		set.Close(context.Background())
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func record(name, on string, bytes int64) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: on, Size: v1alpha1.Bytes(bytes), Worker: v1alpha1.Worker{Host: host},
		},
	}
}

func (r *rig) create(t *testing.T, v *v1alpha1.DatastoreVolume) {
	t.Helper()
	if _, err := r.store.Volumes.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) await(t *testing.T, name, what string, done func(*v1alpha1.DatastoreVolume) bool) *v1alpha1.DatastoreVolume {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := store.Wait(ctx, r.store.Volumes, name, func(v *v1alpha1.DatastoreVolume) (bool, error) { return v != nil && done(v), nil })
	if err != nil {
		t.Fatalf("%s did not become %s: %v", name, what, err)
	}
	return v
}

func phase(p v1alpha1.Phase) func(*v1alpha1.DatastoreVolume) bool {
	return func(v *v1alpha1.DatastoreVolume) bool { return v.Status.Worker.Phase == p }
}

func (r *rig) change(t *testing.T, name string, alter func(*v1alpha1.DatastoreVolume)) {
	t.Helper()
	_, err := store.Change(t.Context(), r.store.Volumes, name, func(v *v1alpha1.DatastoreVolume) error { alter(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func TestAVolumesLife(t *testing.T) {
	r := newRig(t)
	r.create(t, record("v", "a", gib))
	v := r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Size.Value() != gib || v.Status.Worker.Identity != string(v.UID) || v.Status.Worker.Location == "" {
		t.Errorf("status %+v", v.Status.Worker)
	}
	r.change(t, "v", func(v *v1alpha1.DatastoreVolume) { v.Spec.Size = v1alpha1.Bytes(2 * gib) })
	r.await(t, "v", "grown", func(v *v1alpha1.DatastoreVolume) bool { return v.Status.Worker.Size.Value() == 2*gib })
	r.change(t, "v", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{Policy: v1alpha1.DeleteData} })
	r.await(t, "v", "deleted", phase(v1alpha1.Deleted))
	if got := r.pools["a"].names(); len(got) > 0 {
		t.Errorf("left on the pool: %v", got)
	}
}

func TestDeletingTheRecordAloneDeletesNoData(t *testing.T) {
	r := newRig(t)
	r.create(t, record("v", "a", gib))
	r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if err := r.store.Volumes.Delete(t.Context(), "v", ""); err != nil {
		t.Fatal(err)
	}
	// Work on another volume of the same pool shows that the agent has seen the deletion.
	r.create(t, record("w", "a", gib))
	r.await(t, "w", "ready", phase(v1alpha1.Ready))
	if got := r.pools["a"].names(); !slices.Equal(got, []string{"v", "w"}) {
		t.Errorf("on the pool: %v", got)
	}
}

func TestWhatIsOverTheLimitIsRejectedAndNothingCarved(t *testing.T) {
	r := newRig(t)
	r.create(t, record("big", "a", 9*gib)) // of 10 GiB, less the default reserve of 5 %
	r.await(t, "big", "ready", phase(v1alpha1.Ready))
	r.create(t, record("more", "a", gib))
	v := r.await(t, "more", "rejected", phase(v1alpha1.Rejected))
	if v.Status.Worker.Failure == nil || v.Status.Worker.Failure.Reason != fault.Exhausted.String() {
		t.Errorf("failure %+v", v.Status.Worker.Failure)
	}
	if got := r.pools["a"].names(); !slices.Equal(got, []string{"big"}) {
		t.Errorf("on the pool: %v", got)
	}
	// What is deleted can be promised again.
	r.change(t, "big", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
	r.await(t, "big", "deleted", phase(v1alpha1.Deleted))
	r.create(t, record("again", "a", 9*gib))
	r.await(t, "again", "ready", phase(v1alpha1.Ready))
}

func TestWhatIsCarvedAlreadyIsNeverRejected(t *testing.T) {
	// A try that died before it could say so, or records that were put back from a copy.
	r := newRig(t, func(r *rig) { r.pools["a"].volumes["v"] = 20 * gib })
	r.create(t, record("v", "a", 20*gib)) // more than the pool may promise
	v := r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Size.Value() != 20*gib || r.pools["a"].creates != 0 {
		t.Errorf("status %+v, %d creations", v.Status.Worker, r.pools["a"].creates)
	}
}

func TestAVolumeOfADatastoreThatIsGoneIsEnded(t *testing.T) {
	r := newRig(t)
	r.create(t, record("v", "nowhere", gib))
	v := r.await(t, "v", "rejected", phase(v1alpha1.Rejected))
	if v.Status.Worker.Failure == nil || v.Status.Worker.Failure.Reason != fault.Exhausted.String() {
		t.Errorf("failure %+v", v.Status.Worker.Failure)
	}
	gone := record("w", "nowhere", gib)
	gone.Spec.Deletion = &v1alpha1.Deletion{}
	r.create(t, gone)
	r.await(t, "w", "deleted", phase(v1alpha1.Deleted))
}

func TestAFailureIsReportedAndTheWorkTriedAgain(t *testing.T) {
	r := newRig(t, func(r *rig) { r.pools["a"].fail = fault.New(fault.Unavailable, "cable pulled") })
	r.create(t, record("v", "a", gib))
	v := r.await(t, "v", "failed", func(v *v1alpha1.DatastoreVolume) bool { return v.Status.Worker.Failure != nil })
	if f := v.Status.Worker.Failure; f.Message != "cable pulled" || f.Reason != "Unavailable" || v.Status.Worker.Phase != v1alpha1.Pending {
		t.Errorf("failure %+v, phase %q", f, v.Status.Worker.Phase)
	}
	r.pools["a"].mu.Lock()
	r.pools["a"].fail = nil
	r.pools["a"].mu.Unlock()
	v = r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Failure != nil {
		t.Errorf("the failure stays: %+v", v.Status.Worker.Failure)
	}
}

func TestAPoolThatHangsDelaysNoOther(t *testing.T) {
	hang := make(chan struct{})
	r := newRig(t, func(r *rig) { r.pools["a"].hang = hang })
	for _, name := range []string{"h1", "h2", "h3", "h4"} {
		r.create(t, record(name, "a", gib))
	}
	r.create(t, record("good", "b", gib))
	r.await(t, "good", "ready", phase(v1alpha1.Ready))
	close(hang)
	r.await(t, "h4", "ready", phase(v1alpha1.Ready))
}

func TestAnotherHostsVolumesAreLeftAlone(t *testing.T) {
	r := newRig(t)
	v := record("theirs", "a", gib)
	v.Spec.Worker.Host = "node-2"
	r.create(t, v)
	r.create(t, record("ours", "a", gib))
	r.await(t, "ours", "ready", phase(v1alpha1.Ready))
	if got := r.pools["a"].names(); !slices.Equal(got, []string{"ours"}) {
		t.Errorf("on the pool: %v", got)
	}
}

func TestThePoolsIdentityIsKeptBeforeItsFirstVolume(t *testing.T) {
	r := newRig(t)
	r.create(t, record("v", "a", gib))
	r.await(t, "v", "ready", phase(v1alpha1.Ready))
	h, err := r.store.Hosts.Get(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Status.Pools["a"]; got.UUID != "pool-uuid" || got.Health != v1alpha1.Healthy || got.Total.Value() != 10*gib {
		t.Errorf("the host's record says %+v", got)
	}
}
