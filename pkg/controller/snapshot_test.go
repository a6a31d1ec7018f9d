package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestASnapshotIsTheSameForTheSameRequest(t *testing.T) {
	r := newRig(t, obedient)
	v := r.create(t, ask("v", gib, "datastore", "large"))
	r.create(t, ask("w", gib, "datastore", "large"))
	q := controller.SnapshotRequest{
		Name: "s", Volume: "v", Topology: controller.Topology{Requisite: []string{node}},
		Parameters: map[string]string{"csi.storage.k8s.io/volumesnapshot/name": "nightly", "csi.storage.k8s.io/volumesnapshot/namespace": "team"},
	}
	first, err := r.CreateSnapshot(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.CreateSnapshot(t.Context(), q); err != nil || again.UID != first.UID {
		t.Errorf("the same request made another snapshot: %v", err)
	}
	if first.Spec.Datastore != "large" || first.Spec.Worker.Host != node || first.Spec.VolumeUID != v.UID || first.Spec.Filesystem.UUID != v.Spec.Filesystem.UUID {
		t.Errorf("the record does not say what a restore needs: %+v", first.Spec)
	}
	if got := first.Labels["datastore-csi.io/volumesnapshot-name"] + "/" + first.Labels["datastore-csi.io/volumesnapshot-namespace"]; got != "nightly/team" {
		t.Errorf("labels %v", first.Labels)
	}
	if !controller.ReadyToUse(first) || controller.RestoreSize(first) != gib {
		t.Errorf("ready %t, restore size %d", controller.ReadyToUse(first), controller.RestoreSize(first))
	}
	other := func(change func(*controller.SnapshotRequest)) error {
		o := q
		change(&o)
		_, err := r.CreateSnapshot(t.Context(), o)
		return err
	}
	want(t, other(func(q *controller.SnapshotRequest) { q.Volume = "w" }), fault.Exists, `"s"`, "source volume")
	want(t, other(func(q *controller.SnapshotRequest) { q.Requisite = []string{"node-9"} }), fault.Exists, "accessibility")
	want(t, other(func(q *controller.SnapshotRequest) { q.Parameters = map[string]string{"colour": "red"} }), fault.Invalid, "colour")

	// The snapshot outlives its source, and a source that comes again under the same name is another one.
	if err := r.Delete(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	if again, err := r.CreateSnapshot(t.Context(), q); err != nil || again.UID != first.UID {
		t.Errorf("after the source is gone: %v", err)
	}
	r.create(t, ask("v", gib, "datastore", "large"))
	_, err = r.CreateSnapshot(t.Context(), q)
	want(t, err, fault.Exists, "source volume")
}

func TestASnapshotThatCantBeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		given  func(*testing.T, *rig)
		change func(*controller.SnapshotRequest)
		kind   fault.Kind
		says   []string
	}{
		"without a name":          {nil, func(q *controller.SnapshotRequest) { q.Name = "" }, fault.Invalid, []string{"snapshot name"}},
		"of no volume":            {nil, func(q *controller.SnapshotRequest) { q.Volume = "" }, fault.Invalid, []string{"volume ID"}},
		"of a hostile volume":     {nil, func(q *controller.SnapshotRequest) { q.Volume = "../etc" }, fault.Invalid, nil},
		"of what is not there":    {nil, func(q *controller.SnapshotRequest) { q.Volume = "gone" }, fault.NotFound, []string{"gone"}},
		"with unknown parameters": {nil, func(q *controller.SnapshotRequest) { q.Parameters = map[string]string{"a": "b"} }, fault.Invalid, []string{`"a"`}},
		"for another host":        {nil, func(q *controller.SnapshotRequest) { q.Requisite = []string{"node-9"} }, fault.Exhausted, []string{"node-9", node}},
		"on a cordoned datastore": {func(t *testing.T, r *rig) {
			r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) { d.Maintenance = v1alpha1.Cordon })
		}, nil, fault.Exhausted, []string{"cordoned"}},
		"on a critical pool": {func(t *testing.T, r *rig) {
			r.pool(t, "large", func(p *v1alpha1.PoolStatus) { p.Health = v1alpha1.Critical })
		}, nil, fault.Exhausted, []string{"large on host node-1"}},
		"on an unavailable pool": {func(t *testing.T, r *rig) {
			r.pool(t, "large", func(p *v1alpha1.PoolStatus) { p.Health = v1alpha1.Unavailable })
		}, nil, fault.Unavailable, []string{"unavailable"}},
		"of what is in use, where others can": {
			func(t *testing.T, r *rig) {
				r.has(t, "small", v1alpha1.InstantCopies)
				if err := r.publish(t, "v"); err != nil {
					t.Fatal(err)
				}
			}, nil, fault.Precondition, []string{`volume "v"`, node, "unpublish", "xfs", "small on host node-1"},
		},
		"of a sub-directory": {nil, func(q *controller.SnapshotRequest) { q.Volume = "tree" }, fault.Invalid, []string{`volume "tree"`, "btrfs", "image"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, obedient)
			r.create(t, ask("v", gib, "datastore", "large"))
			r.create(t, ask("tree", gib, "datastore", "large", "format", "subdirectory", "quota", "none"))
			if c.given != nil {
				c.given(t, r)
			}
			q := controller.SnapshotRequest{Name: "s", Volume: "v"}
			if c.change != nil {
				c.change(&q)
			}
			_, err := r.CreateSnapshot(t.Context(), q)
			want(t, err, c.kind, c.says...)
			if all, err := r.store.Snapshots.List(t.Context()); err != nil || len(all) > 0 {
				t.Errorf("left are %v, %v", all, err)
			}
		})
	}
}

func TestWhatAPoolCopiesAtOneInstantMayBeInUse(t *testing.T) {
	r := newRig(t, obedient)
	r.has(t, "large", v1alpha1.InstantCopies, v1alpha1.SubdirectorySnapshots)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.create(t, ask("tree", gib, "datastore", "large", "format", "subdirectory", "quota", "none"))
	for _, id := range []string{"v", "tree"} {
		if err := r.publish(t, id); err != nil {
			t.Fatal(err)
		}
		r.snapshot(t, "s-of-"+id, id)
	}
}

func TestARejectedSnapshotLeavesNoRecordAndSaysWhy(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Exhausted, fault.Precondition, fault.NotFound, fault.Unavailable} {
		r := newRigWith(t, obedient, func(s *v1alpha1.DatastoreSnapshot) {
			s.Status.Worker.Phase = v1alpha1.Rejected
			s.Status.Worker.Failure = &v1alpha1.Failure{Reason: kind.String(), Message: "the worker says no"}
		})
		r.create(t, ask("v", gib))
		_, err := r.CreateSnapshot(t.Context(), controller.SnapshotRequest{Name: "s", Volume: "v"})
		want(t, err, kind, "the worker says no")
		_, err = r.Snapshot(t.Context(), "s")
		want(t, err, fault.NotFound)
	}
}

// copying is a worker that begins to copy, and ends when it is told to.
type copying struct{ whole chan struct{} }

func newCopying() *copying { return &copying{whole: make(chan struct{})} }

func (c *copying) ended() bool {
	select {
	case <-c.whole:
		return true
	default:
		return false
	}
}

func (c *copying) snapshots(s *v1alpha1.DatastoreSnapshot) {
	if c.ended() || s.Spec.Deletion != nil || s.Status.Worker.Phase == v1alpha1.Deleted {
		obediently(s)
		return
	}
	w := &s.Status.Worker
	w.Phase, w.Progress = v1alpha1.Creating, &v1alpha1.Progress{Done: v1alpha1.Bytes(1), Total: v1alpha1.Bytes(2)}
	if w.TakenAt == nil {
		w.TakenAt = &metav1.Time{Time: time.Unix(1000, 5)}
	}
}

func (c *copying) volumes(v *v1alpha1.DatastoreVolume) {
	if v.Spec.Source == nil || c.ended() || v.Spec.Deletion != nil {
		obedient(v)
		return
	}
	v.Status.Worker.Phase = v1alpha1.Creating
	v.Status.Worker.Progress = &v1alpha1.Progress{Done: v1alpha1.Bytes(1), Total: v1alpha1.Bytes(2)}
}

// touch lets the worker look at a snapshot again.
func (r *rig) touch(t *testing.T, id string) {
	t.Helper()
	_, err := store.Change(t.Context(), r.store.Snapshots, id, func(s *v1alpha1.DatastoreSnapshot) error {
		s.Annotations = map[string]string{"look": uuid.NewString()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestALongSnapshotIsTakenAtOnceAndReadyLater(t *testing.T) {
	c := newCopying()
	r := newRigWith(t, obedient, c.snapshots)
	r.create(t, ask("v", gib, "datastore", "large"))
	s := r.snapshot(t, "s", "v")
	if controller.ReadyToUse(s) || !controller.TakenAt(s).Equal(time.Unix(1000, 0)) {
		t.Errorf("ready %t, taken at %v", controller.ReadyToUse(s), controller.TakenAt(s))
	}
	_, err := r.Create(t.Context(), from(ask("copy", gib), v1alpha1.SourceSnapshot, "s"))
	want(t, err, fault.Unavailable, `snapshot "s"`, "1 of 2 bytes")
	want(t, r.publish(t, "v"), fault.Busy, `snapshot "s"`, "1 of 2 bytes")
	// What is refused again and again writes nothing: the worker takes an attachment for a reader or writer.
	before, err := r.Get(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	want(t, r.publish(t, "v"), fault.Busy, `snapshot "s"`)
	if v, err := r.Get(t.Context(), "v"); err != nil || len(v.Spec.Attachments) > 0 || v.ResourceVersion != before.ResourceVersion {
		t.Errorf("the refused attachment was written: %v, %v", v.Spec.Attachments, err)
	}
	want(t, r.Delete(t.Context(), "v"), fault.Busy, `snapshot "s"`)
	_, err = r.Expand(t.Context(), "v", controller.Range{Required: 2 * gib})
	want(t, err, fault.Busy, `snapshot "s"`)

	close(c.whole)
	r.touch(t, "s")
	if _, err := store.Wait(t.Context(), r.store.Snapshots, "s", func(s *v1alpha1.DatastoreSnapshot) (bool, error) {
		return controller.ReadyToUse(s), nil
	}); err != nil {
		t.Fatal(err)
	}
	if again := r.snapshot(t, "s", "v"); !controller.ReadyToUse(again) || !controller.TakenAt(again).Equal(controller.TakenAt(s)) {
		t.Errorf("when it is whole: ready %t, taken at %v", controller.ReadyToUse(again), controller.TakenAt(again))
	}
	if err := r.publish(t, "v"); err != nil {
		t.Errorf("a source that is not copied any more: %v", err)
	}
}

func TestASnapshotThatFailsIsSaidToFail(t *testing.T) {
	r := newRigWith(t, obedient, func(s *v1alpha1.DatastoreSnapshot) {
		s.Status.Worker.Phase = v1alpha1.Creating
		s.Status.Worker.Failure = &v1alpha1.Failure{Reason: "Internal", Message: "out of luck"}
	})
	r.create(t, ask("v", gib))
	_, err := r.CreateSnapshot(t.Context(), controller.SnapshotRequest{Name: "s", Volume: "v"})
	want(t, err, fault.Unavailable, "out of luck", "tried again")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.CreateSnapshot(ctx, controller.SnapshotRequest{Name: "s", Volume: "v"})
	want(t, err, fault.Unavailable)
}

func TestDeleteSnapshot(t *testing.T) {
	r := newRig(t, obedient)
	r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) {
		d.Volumes.OnDelete, d.Volumes.Wipe = v1alpha1.RetainData, v1alpha1.WipeZero
	})
	r.has(t, "large", v1alpha1.WipeByZeroes)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.snapshot(t, "s", "v")
	deletions := make(chan v1alpha1.Deletion, 1)
	watch, err := r.store.Snapshots.Watch(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	go func() {
		for {
			e, err := watch.Next(t.Context())
			if err != nil {
				return
			}
			if e.Record != nil && e.Record.Spec.Deletion != nil {
				deletions <- *e.Record.Spec.Deletion
				return
			}
		}
	}()
	for range 2 {
		if err := r.DeleteSnapshot(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
	}
	if d := <-deletions; d.Policy != v1alpha1.DeleteData || d.Wipe != v1alpha1.WipeZero || d.RequestedAt.IsZero() {
		t.Errorf("the order is %+v: a snapshot is never kept, and wiped as its datastore says", d)
	}
	_, err = r.Snapshot(t.Context(), "s")
	want(t, err, fault.NotFound, `"s"`)
	want(t, r.DeleteSnapshot(t.Context(), "../etc"), fault.Invalid)
}

func TestASnapshotIsWipedAsItsSourceAsked(t *testing.T) {
	var ordered atomic.Pointer[v1alpha1.Deletion]
	r := newRigWith(t, obedient, func(s *v1alpha1.DatastoreSnapshot) {
		if s.Spec.Deletion != nil {
			ordered.Store(s.Spec.Deletion)
		}
		obediently(s)
	})
	r.has(t, "large", v1alpha1.WipeByZeroes)
	r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) { d.Volumes.Wipe = v1alpha1.WipeNone })
	q := ask("v", gib, "datastore", "large")
	q.Mutable = map[string]string{"wipe": "zero"}
	r.create(t, q)
	r.snapshot(t, "s", "v")
	if err := r.Delete(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteSnapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if d := ordered.Load(); d.Wipe != v1alpha1.WipeZero {
		t.Errorf("the order is %+v", d)
	}
}

func TestASnapshotThatIsBeingCopiedIsHeld(t *testing.T) {
	c := newCopying()
	r := newRig(t, c.volumes)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.snapshot(t, "s", "v")
	ctx, cancel := context.WithCancel(t.Context())
	made := make(chan error, 1)
	go func() {
		_, err := r.Create(ctx, from(ask("copy", gib), v1alpha1.SourceSnapshot, "s"))
		made <- err
	}()
	if _, err := store.Wait(t.Context(), r.store.Volumes, "copy", func(v *v1alpha1.DatastoreVolume) (bool, error) {
		return v != nil && v.Status.Worker.Phase == v1alpha1.Creating, nil
	}); err != nil {
		t.Fatal(err)
	}
	want(t, r.DeleteSnapshot(t.Context(), "s"), fault.Precondition, `volume "copy"`, "1 of 2 bytes")
	cancel() // the caller gives up, the worker does not
	if err := <-made; err == nil {
		t.Error("a copy that is not whole was answered")
	}
	want(t, r.DeleteSnapshot(t.Context(), "s"), fault.Precondition, `volume "copy"`)
	if err := r.Delete(t.Context(), "copy"); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteSnapshot(t.Context(), "s"); err != nil {
		t.Errorf("when the copy is gone: %v", err)
	}
}

func TestListSnapshots(t *testing.T) {
	pending := "p"
	r := newRigWith(t, obedient, func(s *v1alpha1.DatastoreSnapshot) {
		if s.Name != pending {
			obediently(s)
		}
	})
	r.create(t, ask("v", gib))
	r.create(t, ask("w", gib))
	for name, volume := range map[string]string{"a": "v", "b": "w", "c": "v", "d": "v"} {
		r.snapshot(t, name, volume)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := r.CreateSnapshot(ctx, controller.SnapshotRequest{Name: pending, Volume: "v"})
		answered <- err
	}()
	if _, err := store.Wait(t.Context(), r.store.Snapshots, pending, func(s *v1alpha1.DatastoreSnapshot) (bool, error) {
		return s != nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-answered; err == nil {
		t.Fatal("a snapshot that is not taken was answered")
	}
	_, err := r.Snapshot(t.Context(), pending)
	want(t, err, fault.Unavailable, "not taken")
	for name, c := range map[string]struct {
		filter controller.SnapshotFilter
		token  string
		max    int
		want   string
		next   string
		kind   fault.Kind
	}{
		"all that are taken":         {controller.SnapshotFilter{}, "", 0, "abcd", "", 0},
		"of a volume":                {controller.SnapshotFilter{Volume: "v"}, "", 0, "acd", "", 0},
		"one":                        {controller.SnapshotFilter{ID: "b"}, "", 0, "b", "", 0},
		"one of another volume":      {controller.SnapshotFilter{ID: "b", Volume: "v"}, "", 0, "", "", 0},
		"one that is not taken":      {controller.SnapshotFilter{ID: pending}, "", 0, "", "", 0},
		"an unknown one":             {controller.SnapshotFilter{ID: "x"}, "", 0, "", "", 0},
		"a hostile one":              {controller.SnapshotFilter{ID: "../etc"}, "", 0, "", "", 0},
		"of an unknown volume":       {controller.SnapshotFilter{Volume: "x"}, "", 0, "", "", 0},
		"the first page":             {controller.SnapshotFilter{}, "", 2, "ab", "after:b", 0},
		"the last page":              {controller.SnapshotFilter{}, "after:b", 2, "cd", "", 0},
		"a volume's first page":      {controller.SnapshotFilter{Volume: "v"}, "", 1, "a", "after:a", 0},
		"after one that is gone":     {controller.SnapshotFilter{}, "after:bb", 0, "cd", "", 0},
		"from a token of a stranger": {controller.SnapshotFilter{}, "b", 0, "", "", fault.Busy},
		"less than nothing":          {controller.SnapshotFilter{}, "", -1, "", "", fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := r.ListSnapshots(t.Context(), c.filter, c.token, c.max)
			if c.kind != 0 {
				want(t, err, c.kind)
				return
			}
			got := ""
			for _, s := range page.Entries {
				got += s.Name
			}
			if err != nil || got != c.want || page.Next != c.next {
				t.Errorf("got %q, next %q, %v", got, page.Next, err)
			}
		})
	}
}

func TestASnapshotsPromiseCountsAndItIsNoVolume(t *testing.T) {
	r := newRigWith(t, obedient, func(s *v1alpha1.DatastoreSnapshot) {
		obediently(s)
		s.Status.Worker.Promised = v1alpha1.Bytes(gib)
	})
	r.administer(t, "small", func(d *v1alpha1.DatastoreSpec) { d.Capacity.MaxVolumes = 2 })
	r.create(t, ask("v", gib/2, "datastore", "small"))
	r.snapshot(t, "s", "v")
	_, err := r.Create(t.Context(), ask("w", gib, "datastore", "small"))
	want(t, err, fault.Exhausted, fmt.Sprint(gib/2)+" of its")
	r.create(t, ask("w", gib/2, "datastore", "small"))
	if err := r.DeleteSnapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	r.create(t, ask("x", gib, "datastore", "small"))
}

func TestStartFinishesSnapshotsAndKnowsCopiesUnderWay(t *testing.T) {
	c := newCopying()
	r := newRigWith(t, obedient, c.snapshots)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.snapshot(t, "s", "v")
	r.snapshot(t, "done", "v")
	if _, err := store.ChangeStatus(t.Context(), r.store.Snapshots, "done", func(s *v1alpha1.DatastoreSnapshot) error {
		s.Status.Worker.Phase = v1alpha1.Deleted
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	next := controller.New(controller.Config{Store: r.store, Types: []datastore.Type{testType()}, Now: time.Now, NewUUID: uuid.NewString})
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := r.store.Snapshots.List(t.Context()); err != nil || slices.ContainsFunc(all, func(s *v1alpha1.DatastoreSnapshot) bool { return s.Name == "done" }) {
		t.Errorf("the finished snapshot's record is still there, %v", err)
	}
	_, err := next.Publish(t.Context(), controller.PublishRequest{
		ID: "v", Host: node, Use: controller.Use{Access: v1alpha1.Filesystem, Mode: "SINGLE_NODE_WRITER"},
	})
	want(t, err, fault.Busy, `snapshot "s"`)
	if !strings.HasPrefix(controller.SnapshotID("Nightly"), "s-") || controller.SnapshotID("nightly") != "nightly" {
		t.Error("snapshots' IDs")
	}
}
