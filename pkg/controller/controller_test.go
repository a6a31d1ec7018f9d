package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestCreateIsIdempotentAndCompares(t *testing.T) {
	r := newRig(t, obedient)
	first := r.create(t, ask("v", gib, "datastore", "large"))
	if again := r.create(t, ask("v", gib, "datastore", "large")); again.UID != first.UID {
		t.Error("the same request made another volume")
	}
	other := ask("v", gib, "datastore", "large")
	other.Access.Modes = []string{"SINGLE_NODE_READER_ONLY"}
	for what, q := range map[string]controller.CreateRequest{
		"size": ask("v", 2*gib, "datastore", "large"), "parameters": ask("v", gib), "capabilities": other,
	} {
		_, err := r.Create(t.Context(), q)
		want(t, err, fault.Exists, what)
	}
}

func TestCreateSaysWhichDatastoresThereAre(t *testing.T) {
	r := newRig(t, obedient)
	_, err := r.Create(t.Context(), ask("v", gib, "datastore", "lagre"))
	want(t, err, fault.Invalid, "lagre", "large, small")
	_, err = r.Create(t.Context(), ask("v", gib, "datastoreSelector", "size=huge"))
	want(t, err, fault.Exhausted, "size=huge")
	_, err = r.Create(t.Context(), ask("v", 11*gib))
	want(t, err, fault.Exhausted, "large on host node-1", "small on host node-1")
	r.gone(t, "v")
}

func TestPromisesAreCountedAndGivenBack(t *testing.T) {
	r := newRig(t, obedient)
	q := func(name string) controller.CreateRequest { return ask(name, gib, "datastore", "small") }
	r.create(t, q("a"))
	r.create(t, q("b"))
	_, err := r.Create(t.Context(), q("c"))
	want(t, err, fault.Exhausted, "0 of its 2147483648 promisable bytes are left")
	if err := r.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.gone(t, "a")
	r.create(t, q("c"))
	if got := r.Capacity(t.Context(), controller.CapacityRequest{Access: v1alpha1.VolumeAccess{Type: v1alpha1.Block}}); got.Available != 10*gib || got.Largest != 10*gib {
		t.Errorf("capacity %+v", got)
	}
}

func TestARejectedVolumeGoesToTheNextDatastoreAndLeavesNoRecord(t *testing.T) {
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if v.Spec.Datastore == "large" && v.Spec.Deletion == nil {
			v.Status.Worker.Phase = v1alpha1.Rejected
			v.Status.Worker.Failure = &v1alpha1.Failure{Reason: "Exhausted", Message: "the disk says no"}
			return
		}
		obedient(v)
	})
	if v := r.create(t, ask("v", gib)); v.Spec.Datastore != "small" {
		t.Errorf("it lies on %s", v.Spec.Datastore)
	}
	_, err := r.Create(t.Context(), ask("w", gib, "datastore", "large"))
	want(t, err, fault.Exhausted, "the disk says no")
	r.gone(t, "w")
}

func TestAFailingWorkerIsReportedAndTheRecordStays(t *testing.T) {
	failing := true
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if failing && v.Status.Worker.Failure == nil {
			v.Status.Worker.Failure = &v1alpha1.Failure{Reason: "Internal", Message: "mkfs: out of luck"}
		}
	})
	_, err := r.Create(t.Context(), ask("v", gib))
	want(t, err, fault.Unavailable, "mkfs: out of luck", "tried again")
	if _, err := r.Get(t.Context(), "v"); err != nil {
		t.Errorf("the provisioner would lose the volume: %v", err)
	}
}

func TestPublish(t *testing.T) {
	r := newRig(t, obedient)
	r.create(t, ask("v", gib))
	q := controller.PublishRequest{ID: "v", Host: node, Use: controller.Use{Access: v1alpha1.Filesystem, Mode: "SINGLE_NODE_WRITER"}}
	first, err := r.Publish(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Publish(t.Context(), q); err != nil || again != first {
		t.Errorf("again: generation %d, %v; first %d", again, err, first)
	}
	with := func(alter func(*controller.PublishRequest)) error {
		other := q
		alter(&other)
		_, err := r.Publish(t.Context(), other)
		return err
	}
	want(t, with(func(q *controller.PublishRequest) { q.ReadOnly = true }), fault.Exists, "read-only")
	want(t, with(func(q *controller.PublishRequest) { q.Host = "node-9" }), fault.NotFound, "node-9")
	want(t, with(func(q *controller.PublishRequest) { q.ID = "w" }), fault.NotFound, "w")
	want(t, with(func(q *controller.PublishRequest) { q.Access = v1alpha1.Block }), fault.Invalid, "Block")
	want(t, with(func(q *controller.PublishRequest) { q.Mode = "MULTI_NODE_MULTI_WRITER" }), fault.Invalid, "MULTI_NODE")
	want(t, with(func(q *controller.PublishRequest) { q.Filesystem = "xfs" }), fault.Invalid, "xfs")
	want(t, r.Delete(t.Context(), "v"), fault.Precondition, node)

	if err := r.Unpublish(t.Context(), "v", ""); err != nil {
		t.Fatal(err)
	}
	second, err := r.Publish(t.Context(), q)
	if err != nil || second == first {
		t.Errorf("a new attachment has generation %d like the old one, %v", second, err)
	}
}

func TestAVolumeThatAHostMayStillUseIsNotDeleted(t *testing.T) {
	r := newRig(t, obedient)
	r.create(t, ask("v", gib))
	_, err := store.ChangeStatus(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Nodes = map[string]v1alpha1.NodeStatus{node: {BootID: "b"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, r.Delete(t.Context(), "v"), fault.Precondition, node)
}

func TestPublishHoldsTheHostsLimit(t *testing.T) {
	r := newRig(t, obedient)
	publish := func(id string) error {
		_, err := r.Publish(t.Context(), controller.PublishRequest{ID: id, Host: node, Use: controller.Use{Access: v1alpha1.Filesystem, Mode: "SINGLE_NODE_WRITER"}, MaxVolumes: 1})
		return err
	}
	r.create(t, ask("a", gib))
	r.create(t, ask("b", gib))
	if err := publish("a"); err != nil {
		t.Fatal(err)
	}
	want(t, publish("b"), fault.Exhausted, "limit is 1")
	if err := publish("a"); err != nil {
		t.Errorf("the repeated call counts twice: %v", err)
	}
	if err := r.Unpublish(t.Context(), "a", node); err != nil {
		t.Fatal(err)
	}
	if err := publish("b"); err != nil {
		t.Errorf("what was unpublished still counts: %v", err)
	}
}

func TestExpand(t *testing.T) {
	r := newRig(t, obedient)
	r.create(t, ask("v", gib, "datastore", "small"))
	for _, c := range []struct {
		r    controller.Range
		want int64
		kind fault.Kind
	}{
		{controller.Range{Required: gib + 1}, gib + 4096, 0},
		{controller.Range{Required: gib}, gib + 4096, 0},
		{controller.Range{Required: 1, Limit: gib}, 0, fault.OutOfRange},
		{controller.Range{Required: 3 * gib}, 0, fault.OutOfRange},
		{controller.Range{Required: -1}, 0, fault.Invalid},
	} {
		got, err := r.Expand(t.Context(), "v", c.r)
		if got.Bytes != c.want || (c.kind != 0 && !fault.Is(err, c.kind)) || (c.kind == 0 && err != nil) {
			t.Errorf("%+v: %d, %v", c.r, got.Bytes, err)
		}
	}
	r.create(t, ask("w", gib/2, "datastore", "small"))
	_, err := r.Expand(t.Context(), "v", controller.Range{Required: 2 * gib})
	want(t, err, fault.Exhausted, "left")
}

func TestAnExpansionThatIsRefusedIsTakenBack(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Exhausted, fault.Precondition} {
		r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
			if v.Status.Worker.Phase == v1alpha1.Ready && v.Spec.Deletion == nil {
				v.Status.Worker.Failure = &v1alpha1.Failure{Reason: kind.String(), Message: "the disk is full", ObservedGeneration: v.Generation}
				return
			}
			obedient(v)
		})
		r.create(t, ask("v", gib))
		_, err := r.Expand(t.Context(), "v", controller.Range{Required: 2 * gib})
		want(t, err, kind, "the disk is full")
		v, err := r.Get(t.Context(), "v")
		if err != nil || v.Spec.Size.Value() != gib {
			t.Errorf("the record asks for %v, %v", v.Spec.Size.Value(), err)
		}
	}
}

func TestListPages(t *testing.T) {
	r := newRig(t, obedient)
	for _, name := range []string{"c", "a", "b"} {
		r.create(t, ask(name, gib))
	}
	var seen []string
	token := ""
	for {
		page, err := r.List(t.Context(), token, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Entries {
			seen = append(seen, v.Name)
		}
		if token = page.Next; token == "" {
			break
		}
		if err := r.Delete(t.Context(), "b"); err != nil { // the last of the page: its token stays good
			t.Fatal(err)
		}
	}
	if strings.Join(seen, "") != "abc" {
		t.Errorf("listed %v", seen)
	}
	_, err := r.List(t.Context(), "nonsense", 0)
	want(t, err, fault.Busy, "nonsense")
	_, err = r.List(t.Context(), "", -1)
	want(t, err, fault.Invalid)
}

func TestStartFinishesWhatADeadControllerLeft(t *testing.T) {
	r := newRig(t, obedient)
	r.create(t, ask("v", gib))
	_, err := store.ChangeStatus(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Worker.Phase = v1alpha1.Rejected
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	next := controller.New(controller.Config{Store: r.store, Types: []datastore.Type{testType()}, Now: time.Now, NewUUID: uuid.NewString})
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.gone(t, "v")
}
