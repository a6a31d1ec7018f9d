package agent_test

import (
	"slices"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

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
	if got := r.pools["a"].keys(); len(got) > 0 {
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
	if got := r.pools["a"].keys(); !slices.Equal(got, []string{"v", "w"}) {
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
	if got := r.pools["a"].keys(); !slices.Equal(got, []string{"big"}) {
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
	r := newRig(t, func(r *rig) { r.pools["a"].put("v", 20*gib) })
	r.create(t, record("v", "a", 20*gib)) // more than the pool may promise
	v := r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Size.Value() != 20*gib || r.pools["a"].made() != 0 {
		t.Errorf("status %+v, %d creations", v.Status.Worker, r.pools["a"].made())
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
	r.pools["a"].set(func(m *memory) { m.fail = nil })
	v = r.await(t, "v", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Failure != nil {
		t.Errorf("the failure stays: %+v", v.Status.Worker.Failure)
	}
}

func TestWhatAFailedTryLeftIsReclaimedBeforeTheNext(t *testing.T) {
	r := newRig(t, func(r *rig) {
		m := r.pools["a"]
		m.fail = fault.New(fault.Busy, "what an earlier call left is being removed")
		m.reclaimed = func() {
			if m.failed > 0 {
				m.fail = nil
			}
		}
	})
	r.create(t, record("v", "a", gib))
	r.await(t, "v", "ready", phase(v1alpha1.Ready))
}

func TestAPoolThatHangsDelaysNoOther(t *testing.T) {
	hang := make(chan struct{})
	r := newRig(t, func(r *rig) { r.pools["a"].creating = hang })
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
	if got := r.pools["a"].keys(); !slices.Equal(got, []string{"ours"}) {
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
