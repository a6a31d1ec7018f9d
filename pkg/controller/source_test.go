package controller_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestACopyLiesWithItsSourceAndIsLikeIt(t *testing.T) {
	r := newRig(t, obedient)
	r.pool(t, "small", func(p *v1alpha1.PoolStatus) { p.Promisable = v1alpha1.Bytes(5 * gib) })
	for name, c := range map[string]struct {
		source controller.CreateRequest
		copy   controller.CreateRequest
		bytes  int64
		sameID bool
	}{
		"an image, as large":                {ask("v", gib, "datastore", "small"), ask("c", 0), gib, true},
		"an image, larger":                  {ask("v", gib, "datastore", "small"), ask("c", gib+1), gib + 4096, true},
		"an image, by the datastore's name": {ask("v", gib, "datastore", "small"), ask("c", gib, "datastore", "small"), gib, true},
		"an image, by a selector":           {ask("v", gib, "datastore", "small"), ask("c", gib, "datastoreSelector", "size in (small, large)"), gib, true},
		"an image that was rounded up":      {ask("v", gib+1, "datastore", "small"), ask("c", gib+1), gib + 4096, true},
		"an image below the least":          {ask("v", 5, "datastore", "small"), ask("c", 5), 1 << 20, true},
		"btrfs gets another UUID":           {ask("v", gib, "datastore", "small", "csi.storage.k8s.io/fstype", "btrfs"), ask("c", gib), gib, false},
	} {
		for _, kind := range []v1alpha1.SourceKind{v1alpha1.SourceVolume, v1alpha1.SourceSnapshot} {
			t.Run(fmt.Sprint(name, " of a ", kind), func(t *testing.T) {
				v := r.create(t, c.source)
				id, uid := v.Name, v.UID
				if kind == v1alpha1.SourceSnapshot {
					s := r.snapshot(t, "s", "v")
					id, uid = s.Name, s.UID
				}
				made := r.create(t, from(c.copy, kind, id))
				if made.Spec.Datastore != "small" || made.Spec.Worker.Host != node || made.Spec.Size.Value() != c.bytes {
					t.Errorf("the copy has %d bytes on %s of %s", made.Spec.Size.Value(), made.Spec.Datastore, made.Spec.Worker.Host)
				}
				if s := made.Spec.Source; s == nil || *s != (v1alpha1.VolumeSource{Kind: kind, Name: id, UID: uid}) {
					t.Errorf("its source is %+v", s)
				}
				if made.Spec.Filesystem.Type != v.Spec.Filesystem.Type || (made.Spec.Filesystem.UUID == v.Spec.Filesystem.UUID) != c.sameID {
					t.Errorf("its file system is %+v, the source's %+v", made.Spec.Filesystem, v.Spec.Filesystem)
				}
				if err := r.Delete(t.Context(), "v"); err != nil {
					t.Fatal(err)
				}
				// A repeat finds its volume though its source is gone; one without, or with another, is another request.
				if again := r.create(t, from(c.copy, kind, id)); again.UID != made.UID {
					t.Error("the repeat made another volume")
				}
				_, err := r.Create(t.Context(), c.copy)
				want(t, err, fault.Exists)
				_, err = r.Create(t.Context(), from(c.copy, kind, "other"))
				want(t, err, fault.Exists, "content source")
				for _, end := range []error{r.Delete(t.Context(), "c"), r.DeleteSnapshot(t.Context(), "s")} {
					if end != nil {
						t.Fatal(end)
					}
				}
			})
		}
	}
}

func TestACopyThatCantBeIsRefused(t *testing.T) {
	block := func(q *controller.CreateRequest) { q.Access.Type = v1alpha1.Block }
	parameter := func(key, value string) func(*controller.CreateRequest) {
		return func(q *controller.CreateRequest) { q.Parameters[key] = value }
	}
	for name, c := range map[string]struct {
		given  func(*testing.T, *rig)
		change func(*controller.CreateRequest)
		kind   fault.Kind
		says   []string
	}{
		"of nothing":               {nil, func(q *controller.CreateRequest) { q.Source = &controller.Source{} }, fault.Invalid, []string{"neither"}},
		"of no volume":             {nil, func(q *controller.CreateRequest) { q.Source.ID = "" }, fault.Invalid, []string{"volume ID"}},
		"of a volume not there":    {nil, func(q *controller.CreateRequest) { q.Source.ID = "gone" }, fault.NotFound, []string{"gone"}},
		"of a snapshot not there":  {nil, func(q *controller.CreateRequest) { q.Source.Kind = v1alpha1.SourceSnapshot }, fault.NotFound, []string{"snapshot"}},
		"as a block volume":        {nil, block, fault.Invalid, []string{"Filesystem", "Block"}},
		"with another file system": {nil, func(q *controller.CreateRequest) { q.Filesystem = "btrfs" }, fault.Invalid, []string{"ext4", "btrfs"}},
		"with mkfs options":        {nil, parameter("mkfsOptions", "-m 1"), fault.Invalid, []string{"mkfsOptions"}},
		"of another format":        {nil, parameter("format", "subdirectory"), fault.Invalid, []string{"Image", "Subdirectory"}},
		"on another datastore":     {nil, parameter("datastore", "small"), fault.Invalid, []string{`"large"`}},
		"on others by selector":    {nil, parameter("datastoreSelector", "size=small"), fault.Invalid, []string{`"large"`}},
		"smaller":                  {nil, func(q *controller.CreateRequest) { q.Required = gib / 2 }, fault.OutOfRange, []string{fmt.Sprint(gib)}},
		"one step smaller":         {nil, func(q *controller.CreateRequest) { q.Required = gib - 4096 }, fault.OutOfRange, []string{fmt.Sprint(gib)}},
		"with a smaller limit":     {nil, func(q *controller.CreateRequest) { q.Range = controller.Range{Limit: gib / 2} }, fault.OutOfRange, []string{fmt.Sprint(gib)}},
		"for another host":         {nil, func(q *controller.CreateRequest) { q.Requisite = []string{"node-9"} }, fault.Exhausted, []string{"source", node, "node-9"}},
		"where there is no room":   {nil, func(q *controller.CreateRequest) { q.Required = 10 * gib }, fault.Exhausted, []string{"large"}},
		"with quota for an image":  {nil, parameter("quota", "none"), fault.Invalid, []string{"quota"}},
		"on a cordoned datastore": {func(t *testing.T, r *rig) {
			r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) { d.Maintenance = v1alpha1.Cordon })
		}, nil, fault.Exhausted, []string{"cordoned"}},
		"of what is in use": {func(t *testing.T, r *rig) {
			if err := r.publish(t, "v"); err != nil {
				t.Fatal(err)
			}
		}, nil, fault.Precondition, []string{`volume "v"`, node, "xfs"}},
		"of what a host may still use": {func(t *testing.T, r *rig) {
			if _, err := store.ChangeStatus(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
				v.Status.Nodes = map[string]v1alpha1.NodeStatus{node: {BootID: "b"}}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}, nil, fault.Precondition, []string{`volume "v"`}},
		"of a sub-directory": {nil, func(q *controller.CreateRequest) {
			q.Source.ID, q.Parameters = "tree", map[string]string{"quota": "none"}
		}, fault.Invalid, []string{"btrfs"}},
		"on a host that is silent": {func(t *testing.T, r *rig) {
			if _, err := store.ChangeStatus(t.Context(), r.store.Hosts, node, func(h *v1alpha1.DatastoreHost) error {
				delete(h.Status.Pools, "large")
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}, nil, fault.Unavailable, []string{"large"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, obedient)
			r.create(t, ask("v", gib, "datastore", "large"))
			r.create(t, ask("tree", gib, "datastore", "large", "format", "subdirectory", "quota", "none"))
			q := from(ask("c", gib), v1alpha1.SourceVolume, "v")
			if c.given != nil {
				c.given(t, r)
			}
			if c.change != nil {
				c.change(&q)
			}
			_, err := r.Create(t.Context(), q)
			want(t, err, c.kind, c.says...)
			r.gone(t, "c")
		})
	}
}

func TestASourceThatIsDeletedOrNotReadyIsNotCopied(t *testing.T) {
	lazy := true
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if !lazy || v.Name != "v" {
			obedient(v)
		}
	})
	if _, err := r.store.Volumes.Create(t.Context(), &v1alpha1.DatastoreVolume{ObjectMeta: named("v"), Spec: v1alpha1.DatastoreVolumeSpec{
		Name: "v", Datastore: "large", Worker: v1alpha1.Worker{Host: node}, Format: v1alpha1.FormatImage,
		Access: v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem},
	}}); err != nil {
		t.Fatal(err)
	}
	copies := func() error {
		_, err := r.Create(t.Context(), from(ask("c", gib), v1alpha1.SourceVolume, "v"))
		return err
	}
	want(t, copies(), fault.Unavailable, `volume "v"`, "not ready")
	_, err := r.GetReady(t.Context(), "v")
	want(t, err, fault.Unavailable, `"v"`)
	_, err = r.Health(t.Context(), "v")
	want(t, err, fault.Unavailable, `"v"`)
	if _, err := store.Change(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Deletion = &v1alpha1.Deletion{Policy: v1alpha1.DeleteData}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want(t, copies(), fault.Busy, `volume "v"`, "deleted")
	_, err = r.CreateSnapshot(t.Context(), controller.SnapshotRequest{Name: "s", Volume: "v"})
	want(t, err, fault.Busy, `volume "v"`, "deleted")
}

func TestARejectedCopyLeavesNoRecordAndSaysWhy(t *testing.T) {
	for _, kind := range []fault.Kind{fault.NotFound, fault.Precondition, fault.Exhausted, fault.OutOfRange, fault.DataLoss} {
		r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
			if v.Spec.Source == nil {
				obedient(v)
				return
			}
			v.Status.Worker.Phase = v1alpha1.Rejected
			v.Status.Worker.Failure = &v1alpha1.Failure{Reason: kind.String(), Message: "the worker says no"}
		})
		r.create(t, ask("v", gib))
		_, err := r.Create(t.Context(), from(ask("c", gib), v1alpha1.SourceVolume, "v"))
		want(t, err, kind, "the worker says no")
		r.gone(t, "c")
		if err := r.publish(t, "v"); err != nil {
			t.Errorf("the refused copy still holds its source: %v", err)
		}
	}
}

func TestACopyAndAPublishNeverBothWin(t *testing.T) {
	c := newCopying()
	r := newRig(t, c.volumes)
	r.create(t, ask("v", gib, "datastore", "large"))
	made := make(chan error, 1)
	go func() {
		_, err := r.Create(t.Context(), from(ask("c", gib), v1alpha1.SourceVolume, "v"))
		made <- err
	}()
	if _, err := store.Wait(t.Context(), r.store.Volumes, "c", func(v *v1alpha1.DatastoreVolume) (bool, error) { return v != nil, nil }); err != nil {
		t.Fatal(err)
	}
	want(t, r.publish(t, "v"), fault.Busy, `volume "c"`)
	// A pool that copies at one instant needs no such care.
	r.has(t, "large", v1alpha1.InstantCopies)
	if err := r.publish(t, "v"); err != nil {
		t.Error(err)
	}
	close(c.whole)
	r.look(t, "c")
	if err := <-made; err != nil {
		t.Error(err)
	}
}

// A copy that begins between the look of a publish and its write is seen after the write.
func TestAPublishThatACopyOvertakesGivesWay(t *testing.T) {
	c := newCopying()
	r := newRig(t, c.volumes)
	r.create(t, ask("v", gib, "datastore", "large"))
	made := make(chan error, 1)
	var overtake sync.Once
	ctx := step.WithHook(t.Context(), func(string, string) {
		overtake.Do(func() {
			go func() {
				_, err := r.Create(t.Context(), from(ask("c", gib), v1alpha1.SourceVolume, "v"))
				made <- err
			}()
			if _, err := store.Wait(t.Context(), r.store.Volumes, "c", func(v *v1alpha1.DatastoreVolume) (bool, error) { return v != nil, nil }); err != nil {
				t.Error(err)
			}
		})
	})
	_, err := r.Publish(ctx, controller.PublishRequest{
		ID: "v", Host: node, Use: controller.Use{Access: v1alpha1.Filesystem, Mode: "SINGLE_NODE_WRITER"},
	})
	want(t, err, fault.Busy, `volume "c"`)
	if v, err := r.Get(t.Context(), "v"); err != nil || len(v.Spec.Attachments) > 0 {
		t.Errorf("the attachment stays: %v, %v", v.Spec.Attachments, err)
	}
	close(c.whole)
	r.look(t, "c")
	if err := <-made; err != nil {
		t.Error(err)
	}
}

// A copy that is only about to look at its source takes no attachment away that was answered before.
func TestARepeatedPublishKeepsItsAttachment(t *testing.T) {
	r := newRig(t, obedient)
	v := r.create(t, ask("v", gib, "datastore", "large"))
	if err := r.publish(t, "v"); err != nil {
		t.Fatal(err)
	}
	attached, err := r.Get(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	// A record of a rejected copy is removed with a write, after the copy was begun and before its source is looked at.
	rejected := &v1alpha1.DatastoreSnapshot{ObjectMeta: named("s"), Spec: v1alpha1.DatastoreSnapshotSpec{
		Name: "s", Volume: "v", VolumeUID: v.UID, Worker: v1alpha1.Worker{Host: node},
	}, Status: v1alpha1.DatastoreSnapshotStatus{Worker: v1alpha1.WorkerStatus{Phase: v1alpha1.Rejected}}}
	if _, err := r.store.Snapshots.Create(t.Context(), rejected); err != nil {
		t.Fatal(err)
	}
	looked := false
	ctx := step.WithHook(t.Context(), func(string, string) {
		if looked {
			return
		}
		looked = true
		if err := r.store.Snapshots.Delete(t.Context(), "s", ""); err != nil {
			t.Error(err)
		}
		if err := r.publish(t, "v"); err != nil {
			t.Errorf("repeated: %v", err)
		}
	})
	_, err = r.CreateSnapshot(ctx, controller.SnapshotRequest{Name: "s", Volume: "v"})
	want(t, err, fault.Precondition, `volume "v"`)
	now, err := r.Get(t.Context(), "v")
	if err != nil || !looked || now.Spec.Attachments[node] != attached.Spec.Attachments[node] {
		t.Errorf("looked %t, the attachment is %+v, %v", looked, now.Spec.Attachments[node], err)
	}
}
