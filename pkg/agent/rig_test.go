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
	soon = 90 * time.Second
)

// memory is a pool that keeps what lies on it in memory: a double for the agent's logic.
type memory struct {
	mu       sync.Mutex
	things   map[string]datastore.Found // by key
	features []v1alpha1.Feature
	creates  int
	fail     error
	failed   int // calls of Create
	// copied is the source of the last copy.
	copied datastore.Volume
	// failCopies ends copies.
	failCopies error
	// creating, copying and reclaiming, where set, block that work until they are closed. A copy tells
	// progress before, and ends with its context.
	creating, copying, reclaiming chan struct{}
	// reclaimed, where set, is called by Reclaim.
	reclaimed func()
	// lists counts the calls of List; again is closed by the next one.
	lists int
	again chan struct{}
	// listed, where set, is called once what List returns is known, and before it does.
	listed func()
	// deleted are the disposals, by key.
	deleted map[string]datastore.Disposal
}

func (m *memory) set(alter func(*memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	alter(m)
}

// put has something lie on the pool that is of a record without a UID.
func (m *memory) put(key string, bytes int64) {
	m.set(func(m *memory) {
		id, snapshot := datastore.ParseKey(key)
		v := datastore.Volume{ID: id, Snapshot: snapshot, Bytes: bytes}
		m.things[key] = datastore.Found{Volume: v, State: datastore.FoundWhole, Allocated: bytes, Made: datastore.Made{Bytes: bytes}}
	})
}

func (m *memory) made() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.creates
}

func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.things))
}

func (m *memory) Status(context.Context) (datastore.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return datastore.Status{UUID: "pool-uuid", Total: 10 * gib, Free: 10 * gib, Features: m.features}, nil
}

func (m *memory) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, p datastore.Progress) (datastore.Made, error) {
	if from != nil {
		return m.copy(ctx, *from, v, p)
	}
	if m.creating != nil {
		<-m.creating
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		m.failed++
		return datastore.Made{}, m.fail
	}
	return m.keep(v, v.Bytes), nil
}

// keep notes what was made. The lock is held.
func (m *memory) keep(v datastore.Volume, promised int64) datastore.Made {
	m.creates++
	made := datastore.Made{Bytes: v.Bytes, Location: v.BackendName(), Identity: v.UID, Promised: promised}
	if v.Snapshot {
		made.TakenAt = time.Unix(1700000000, 0)
	}
	m.things[v.Key()] = datastore.Found{Volume: v, State: datastore.FoundWhole, Made: made, Location: made.Location, Allocated: promised}
	return made
}

func (m *memory) Snapshot(ctx context.Context, of, snap datastore.Volume, p datastore.Progress) (datastore.Made, error) {
	return m.copy(ctx, of, snap, p)
}

func (m *memory) copy(ctx context.Context, from, v datastore.Volume, p datastore.Progress) (datastore.Made, error) {
	m.mu.Lock()
	wait, source := m.copying, m.things[from.Key()]
	m.mu.Unlock()
	if m.failCopies != nil {
		return datastore.Made{}, m.failCopies
	}
	if source.State == "" {
		return datastore.Made{}, fault.New(fault.NotFound, "no source %q", from.ID)
	}
	if wait != nil {
		p(v.Bytes/2, v.Bytes)
		select {
		case <-wait:
		case <-ctx.Done():
			return datastore.Made{}, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copied = from
	return m.keep(v, source.Allocated), nil
}

func (m *memory) Find(_ context.Context, v datastore.Volume) (datastore.Made, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.things[v.Key()]
	if !ok {
		return datastore.Made{}, fault.New(fault.NotFound, "no %s", v.Key())
	}
	made := found.Made
	made.Location, made.Identity, made.Promised = v.BackendName(), v.UID, found.Allocated
	return made, nil
}

func (m *memory) Expand(_ context.Context, v datastore.Volume) (datastore.Made, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.things[v.Key()]
	found.Made.Bytes = max(found.Made.Bytes, v.Bytes)
	found.Volume.OnDelete, found.Volume.Wipe = v.OnDelete, v.Wipe
	m.things[v.Key()] = found
	return found.Made, m.fail
}

func (m *memory) List(context.Context) ([]datastore.Found, error) {
	m.mu.Lock()
	found, listed, err := slices.Collect(maps.Values(m.things)), m.listed, m.fail
	m.lists++
	close(m.again)
	m.again = make(chan struct{})
	m.mu.Unlock()
	if listed != nil {
		listed()
	}
	return found, err
}

func (m *memory) Delete(_ context.Context, v datastore.Volume, d datastore.Disposal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.things, v.Key())
	m.deleted[v.Key()] = d
	return nil
}

func (m *memory) Reclaim(ctx context.Context) error {
	m.mu.Lock()
	if m.reclaimed != nil {
		m.reclaimed()
	}
	m.mu.Unlock()
	if m.reclaiming == nil {
		return nil
	}
	select {
	case <-m.reclaiming:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (m *memory) Open(context.Context, datastore.Volume, bool) (datastore.Opened, error) {
	return datastore.Opened{}, fault.New(fault.Internal, "the agent opens nothing")
}

func (m *memory) Close(context.Context, datastore.Volume) error { return nil }

// rig is an agent at work on two datastores, "a" and "b".
type rig struct {
	store  *store.Store
	pools  map[string]*memory
	config agent.Config
	// statuses are those of the agent's pools.
	statuses func() map[string]v1alpha1.PoolStatus
	*agent.Agent
	// stop ends the agent, as the end of its process does.
	stop func()
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
	r := &rig{store: db.Store(), pools: map[string]*memory{}}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"a", "b"} {
		r.pools[name] = &memory{
			things: map[string]datastore.Found{}, deleted: map[string]datastore.Disposal{}, again: make(chan struct{}),
		}
		d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.DatastoreSpec{Type: "memory"}}
		d.SetDefaults()
		if _, err := r.store.Datastores.Create(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	r.config = agent.Config{Host: host, MachineID: "m", BootID: "b", Store: r.store, Workers: 2, Now: time.Now}
	for _, p := range prepare {
		p(r)
	}
	r.run(t)
	return r
}

// run starts an agent on the rig's store and pools. It ends with the test, or when stop is called.
func (r *rig) run(t *testing.T) {
	t.Helper()
	set := datastore.NewSet(datastore.SetConfig{
		Types: []datastore.Type{{Name: "memory", New: func(_ context.Context, c datastore.Config) (datastore.Pool, error) {
			return r.pools[c.Datastore.Name], nil
		}}},
		Host: host, Interval: time.Minute, Patience: time.Minute, Tools: datastore.Tools{Now: time.Now},
	})
	config := r.config
	config.Set, r.statuses = set, set.Statuses
	r.Agent = agent.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	running := r.Agent
	go func() { done <- running.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		set.Close(context.Background())
	})
	t.Cleanup(r.stop)
}

func record(name, on string, bytes int64) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: on, Size: v1alpha1.Bytes(bytes), Worker: v1alpha1.Worker{Host: host},
		},
	}
}

// create makes a volume's record and returns its UID.
func (r *rig) create(t *testing.T, v *v1alpha1.DatastoreVolume) *v1alpha1.DatastoreVolume {
	t.Helper()
	created, err := r.store.Volumes.Create(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func (r *rig) await(t *testing.T, name, what string, done func(*v1alpha1.DatastoreVolume) bool) *v1alpha1.DatastoreVolume {
	t.Helper()
	return await(t, r.store.Volumes, name, what, done)
}

func await[T any](t *testing.T, table store.Table[T], name, what string, done func(*T) bool) *T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := store.Wait(ctx, table, name, func(v *T) (bool, error) { return v != nil && done(v), nil })
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
	change(t, r.store.Volumes, name, alter)
}

func change[T any, P store.Record[T]](t *testing.T, table store.Table[T], name string, alter func(*T)) {
	t.Helper()
	_, err := store.Change[T, P](t.Context(), table, name, func(v *T) error { alter(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
}
