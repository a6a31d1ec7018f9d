package controller_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const (
	gib  = int64(1 << 30)
	node = "node-1"
)

func testType() datastore.Type {
	return datastore.Type{Name: "test", Capabilities: func(v1alpha1.DatastoreSpec) datastore.Capabilities {
		return datastore.Capabilities{
			AccessTypes: []v1alpha1.AccessType{v1alpha1.Filesystem, v1alpha1.Block}, Formats: []v1alpha1.VolumeFormat{v1alpha1.FormatImage, v1alpha1.FormatSubdirectory},
			Provisioning: []v1alpha1.Provisioning{v1alpha1.Thin}, Filesystems: []string{"ext4", "btrfs"}, Reach: datastore.ReachHost, Expand: true,
			Snapshot: true, Clone: true,
			OnDelete:    []v1alpha1.DeletePolicy{v1alpha1.DeleteData, v1alpha1.RetainData, v1alpha1.ArchiveData},
			Wipe:        []v1alpha1.WipePolicy{v1alpha1.WipeNone, v1alpha1.WipeZero},
			Granularity: 4096, MinBytes: func(string) int64 { return 1 << 20 },
		}
	}}
}

// rig is a controller over real records, with a worker that does what the test says.
type rig struct {
	*controller.Controller
	store *store.Store
}

// worker answers for the agent: it sets the worker's part of a record that wants work.
type worker func(v *v1alpha1.DatastoreVolume)

func obedient(v *v1alpha1.DatastoreVolume) {
	w := &v.Status.Worker
	switch {
	case w.Phase == v1alpha1.Deleted || w.Phase == v1alpha1.Rejected: // done with
	case v.Spec.Deletion != nil:
		w.Phase = v1alpha1.Deleted
	default:
		w.Phase, w.Size, w.Identity = v1alpha1.Ready, v.Spec.Size, string(v.UID)
		w.Marked = &v1alpha1.Marked{OnDelete: v.Spec.OnDelete, Wipe: v.Spec.Wipe}
	}
}

// obediently is obedient for snapshots.
func obediently(s *v1alpha1.DatastoreSnapshot) {
	w := &s.Status.Worker
	if w.Phase == v1alpha1.Deleted || w.Phase == v1alpha1.Rejected {
		return // done with
	}
	if s.Spec.Deletion != nil {
		w.Phase = v1alpha1.Deleted
		return
	}
	w.Phase, w.Size, w.Promised = v1alpha1.Ready, s.Spec.Size, v1alpha1.Bytes(4096)
	if w.TakenAt == nil {
		now := metav1.Now()
		w.TakenAt = &now
	}
}

func newRig(t *testing.T, work worker) *rig {
	t.Helper()
	return newRigWith(t, work, obediently)
}

func newRigWith(t *testing.T, work worker, snapshots func(*v1alpha1.DatastoreSnapshot)) *rig {
	t.Helper()
	db, err := embedded.Open(t.Context(), embedded.Config{
		Path: filepath.Join(t.TempDir(), "records.db"), Owner: embedded.Owner{Host: node, MachineID: "m"}, Now: time.Now, NewUID: uuid.NewString,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := db.Store()
	r := &rig{store: s, Controller: controller.New(controller.Config{
		ClusterID: "c", Store: s, Types: []datastore.Type{testType()}, Now: time.Now, NewUUID: uuid.NewString,
	})}
	r.addDatastores(t)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		serve(ctx, s.Volumes, func(v *v1alpha1.DatastoreVolume) *v1alpha1.WorkerStatus { return &v.Status.Worker }, work)
	})
	serving.Go(func() {
		serve(ctx, s.Snapshots, func(s *v1alpha1.DatastoreSnapshot) *v1alpha1.WorkerStatus { return &s.Status.Worker }, snapshots)
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) addDatastores(t *testing.T) {
	t.Helper()
	h := &v1alpha1.DatastoreHost{ObjectMeta: metav1.ObjectMeta{Name: node}}
	h.Status.Pools = map[string]v1alpha1.PoolStatus{}
	for name, bytes := range map[string]int64{"small": 2 * gib, "large": 10 * gib} {
		d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"size": name}}, Spec: v1alpha1.DatastoreSpec{Type: "test"}}
		if _, err := r.store.Datastores.Create(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		h.Status.Pools[name] = v1alpha1.PoolStatus{Health: v1alpha1.Healthy, Promisable: v1alpha1.Bytes(bytes), Total: v1alpha1.Bytes(bytes)}
	}
	if _, err := r.store.Hosts.Create(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func serve[T any, P store.Record[T]](ctx context.Context, table store.Table[T], status func(*T) *v1alpha1.WorkerStatus, work func(*T)) {
	watch, err := table.Watch(ctx, "")
	if err != nil {
		return
	}
	defer watch.Close()
	for {
		e, err := watch.Next(ctx)
		if err != nil {
			return
		}
		if e.Record == nil {
			continue
		}
		_, _ = store.ChangeStatus[T, P](ctx, table, e.Name, func(r *T) error { // a record that is gone is no matter
			before := *status(r).DeepCopy()
			work(r)
			if equality.Semantic.DeepEqual(before, *status(r)) {
				return store.Unchanged()
			}
			return nil
		})
	}
}

// look lets the worker look at a volume again, after what it does was changed.
func (r *rig) look(t *testing.T, id string) {
	t.Helper()
	_, err := store.Change(t.Context(), r.store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		v.Annotations = map[string]string{"look": uuid.NewString()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pool changes what the host reports of a pool.
func (r *rig) pool(t *testing.T, name string, change func(*v1alpha1.PoolStatus)) {
	t.Helper()
	_, err := store.ChangeStatus(t.Context(), r.store.Hosts, node, func(h *v1alpha1.DatastoreHost) error {
		pool := h.Status.Pools[name]
		change(&pool)
		h.Status.Pools[name] = pool
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// has makes a pool report features.
func (r *rig) has(t *testing.T, name string, features ...v1alpha1.Feature) {
	t.Helper()
	r.pool(t, name, func(p *v1alpha1.PoolStatus) { p.Features = features })
}

// administer changes what the administrator says of a datastore.
func (r *rig) administer(t *testing.T, name string, change func(*v1alpha1.DatastoreSpec)) {
	t.Helper()
	_, err := store.Change(t.Context(), r.store.Datastores, name, func(d *v1alpha1.Datastore) error {
		change(&d.Spec)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) publish(t *testing.T, id string) error {
	t.Helper()
	v, err := r.Get(t.Context(), id)
	if err != nil {
		return err
	}
	_, err = r.Publish(t.Context(), controller.PublishRequest{
		ID: id, Host: node, Use: controller.Use{Access: v.Spec.Access.Type, Mode: "SINGLE_NODE_WRITER"},
	})
	return err
}

func (r *rig) snapshot(t *testing.T, name, volume string) *v1alpha1.DatastoreSnapshot {
	t.Helper()
	s, err := r.CreateSnapshot(t.Context(), controller.SnapshotRequest{Name: name, Volume: volume})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// from makes a request one for a copy.
func from(q controller.CreateRequest, kind v1alpha1.SourceKind, id string) controller.CreateRequest {
	q.Source = &controller.Source{Kind: kind, ID: id}
	return q
}

func ask(name string, bytes int64, parameters ...string) controller.CreateRequest {
	q := controller.CreateRequest{
		Name: name, Range: controller.Range{Required: bytes}, Parameters: map[string]string{},
		Access: v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
	}
	for i := 0; i+1 < len(parameters); i += 2 {
		q.Parameters[parameters[i]] = parameters[i+1]
	}
	return q
}

func (r *rig) create(t *testing.T, q controller.CreateRequest) *v1alpha1.DatastoreVolume {
	t.Helper()
	v, err := r.Create(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *rig) gone(t *testing.T, id string) {
	t.Helper()
	if _, err := r.Get(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("volume %q is still there: %v", id, err)
	}
}

func want(t *testing.T, err error, k fault.Kind, says ...string) {
	t.Helper()
	if !fault.Is(err, k) {
		t.Errorf("got %v (%v), want %v", err, fault.KindOf(err), k)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}
