package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func snapshotRecord(name string, of *v1alpha1.DatastoreVolume) *v1alpha1.DatastoreSnapshot {
	return &v1alpha1.DatastoreSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.DatastoreSnapshotSpec{
			Name: name, Volume: of.Name, VolumeUID: of.UID, Datastore: of.Spec.Datastore, Size: of.Spec.Size, Worker: of.Spec.Worker,
		},
	}
}

// source is a volume that is Ready, of one GiB on datastore a.
func (r *rig) source(t *testing.T) *v1alpha1.DatastoreVolume {
	t.Helper()
	r.create(t, record("source", "a", gib))
	return r.await(t, "source", "ready", phase(v1alpha1.Ready))
}

func (r *rig) snapshot(t *testing.T, name string, of *v1alpha1.DatastoreVolume) {
	t.Helper()
	if _, err := r.store.Snapshots.Create(t.Context(), snapshotRecord(name, of)); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) clone(t *testing.T, name string, of *v1alpha1.DatastoreVolume) {
	t.Helper()
	v := record(name, of.Spec.Datastore, gib)
	v.Spec.Source = &v1alpha1.VolumeSource{Kind: v1alpha1.SourceVolume, Name: of.Name, UID: of.UID}
	r.create(t, v)
}

func (r *rig) attach(t *testing.T, name string) {
	t.Helper()
	r.change(t, name, func(v *v1alpha1.DatastoreVolume) {
		v.Spec.Attachments = map[string]v1alpha1.Attachment{host: {Access: "SINGLE_NODE_WRITER"}}
	})
}

func (r *rig) detach(t *testing.T, name string) {
	t.Helper()
	r.change(t, name, func(v *v1alpha1.DatastoreVolume) { v.Spec.Attachments = nil })
}

// stage has the host say that it may be using a volume, as it does before it stages it.
func (r *rig) stage(t *testing.T, name string) {
	t.Helper()
	r.nodes(t, name, map[string]v1alpha1.NodeStatus{host: {}})
}

func (r *rig) unstage(t *testing.T, name string) {
	t.Helper()
	r.nodes(t, name, nil)
}

func (r *rig) nodes(t *testing.T, name string, nodes map[string]v1alpha1.NodeStatus) {
	t.Helper()
	_, err := store.ChangeStatus(t.Context(), r.store.Volumes, name, func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Nodes = nodes
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) awaitSnapshot(t *testing.T, name string, p v1alpha1.Phase) *v1alpha1.DatastoreSnapshot {
	t.Helper()
	return await(t, r.store.Snapshots, name, string(p), func(s *v1alpha1.DatastoreSnapshot) bool { return s.Status.Worker.Phase == p })
}

func instant(r *rig) { r.pools["a"].features = []v1alpha1.Feature{v1alpha1.InstantCopies} }

// slow has the copies on datastore a wait until the channel is closed.
func slow(r *rig) chan struct{} {
	wait := make(chan struct{})
	r.pools["a"].copying = wait
	return wait
}

func refused(t *testing.T, w v1alpha1.WorkerStatus, k fault.Kind, words string) {
	t.Helper()
	if w.Failure == nil || w.Failure.Reason != k.String() || !strings.Contains(w.Failure.Message, words) {
		t.Errorf("failure %+v, want %s that says %q", w.Failure, k, words)
	}
}

func TestASnapshotsLife(t *testing.T) {
	r := newRig(t, instant)
	r.snapshot(t, "s", r.source(t))
	w := r.awaitSnapshot(t, "s", v1alpha1.Ready).Status.Worker
	if w.Size.Value() != gib || w.Promised.Value() != gib || w.TakenAt == nil || w.TakenAt.Unix() != 1700000000 || w.Location == "" || w.Identity == "" {
		t.Errorf("status %+v", w)
	}
	change(t, r.store.Snapshots, "s", func(s *v1alpha1.DatastoreSnapshot) { s.Spec.Deletion = &v1alpha1.Deletion{Wipe: v1alpha1.WipeZero} })
	r.awaitSnapshot(t, "s", v1alpha1.Deleted)
	if got := r.pools["a"].keys(); !slices.Equal(got, []string{"source"}) {
		t.Errorf("left on the pool: %v", got)
	}
	if got := r.pools["a"].deleted["snapshot/s"]; got.Wipe != v1alpha1.WipeZero {
		t.Errorf("disposed as %+v", got)
	}
}

func TestASnapshotIsTakenWhileItsVolumeIsAtRest(t *testing.T) {
	var during []string
	r := newRig(t, instant, func(r *rig) {
		r.config.Quiesce = func(ctx context.Context, volume string, take func(context.Context) error) error {
			before := r.pools["a"].made()
			err := take(ctx)
			if r.pools["a"].made() == before+1 {
				during = append(during, volume)
			}
			return err
		}
	})
	source := r.source(t)
	r.attach(t, "source")
	r.snapshot(t, "s", source)
	r.awaitSnapshot(t, "s", v1alpha1.Ready)
	if !slices.Equal(during, []string{"source"}) {
		t.Errorf("taken at rest: %v", during)
	}
}

func TestSnapshotsTakeSpaceButAreNoVolumes(t *testing.T) {
	r := newRig(t, instant)
	change(t, r.store.Datastores, "a", func(d *v1alpha1.Datastore) { d.Spec.Capacity.MaxVolumes = 1 })
	source := r.source(t)
	for _, name := range []string{"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"} { // 9 of the 9.5 GiB that can be promised
		r.snapshot(t, name, source)
		r.awaitSnapshot(t, name, v1alpha1.Ready)
	}
	r.snapshot(t, "more", source)
	refused(t, r.awaitSnapshot(t, "more", v1alpha1.Rejected).Status.Worker, fault.Exhausted, "can still be promised")
	change(t, r.store.Snapshots, "s1", func(s *v1alpha1.DatastoreSnapshot) { s.Spec.Deletion = &v1alpha1.Deletion{} })
	r.awaitSnapshot(t, "s1", v1alpha1.Deleted)
	r.snapshot(t, "again", source)
	r.awaitSnapshot(t, "again", v1alpha1.Ready)
	r.create(t, record("v", "a", 1))
	refused(t, r.await(t, "v", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.Exhausted, "maxVolumes")
}

func TestACopyShowsItsProgressUntilItIsReady(t *testing.T) {
	var wait chan struct{}
	r := newRig(t, func(r *rig) { wait = slow(r) })
	source := r.source(t)
	r.clone(t, "copy", source)
	r.snapshot(t, "s", source)
	v := r.await(t, "copy", "copied", phase(v1alpha1.Creating))
	if p := v.Status.Worker.Progress; p == nil || p.Done.Value() != gib/2 || p.Total.Value() != gib {
		t.Errorf("progress %+v", p)
	}
	taken := r.awaitSnapshot(t, "s", v1alpha1.Creating).Status.Worker
	if taken.Promised.Value() != gib || taken.TakenAt == nil {
		t.Errorf("promised %v, taken at %v", taken.Promised, taken.TakenAt)
	}
	close(wait)
	v = r.await(t, "copy", "ready", phase(v1alpha1.Ready))
	if v.Status.Worker.Progress != nil || v.Status.Worker.Size.Value() != gib {
		t.Errorf("status %+v", v.Status.Worker)
	}
	if s := r.awaitSnapshot(t, "s", v1alpha1.Ready); s.Status.Worker.Progress != nil || !s.Status.Worker.TakenAt.Equal(taken.TakenAt) {
		t.Errorf("progress %+v, taken at %v, before at %v", s.Status.Worker.Progress, s.Status.Worker.TakenAt, taken.TakenAt)
	}
}

func TestASourceInUse(t *testing.T) {
	t.Run("is copied at once where the pool can", func(t *testing.T) {
		r := newRig(t, instant)
		source := r.source(t)
		r.attach(t, "source")
		r.clone(t, "copy", source)
		r.await(t, "copy", "ready", phase(v1alpha1.Ready))
	})
	t.Run("refuses a copy that would take its time", func(t *testing.T) {
		r := newRig(t)
		source := r.source(t)
		r.attach(t, "source")
		r.clone(t, "copy", source)
		refused(t, r.await(t, "copy", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.Precondition, host)
		r.snapshot(t, "s", source)
		refused(t, r.awaitSnapshot(t, "s", v1alpha1.Rejected).Status.Worker, fault.Precondition, host)
		if got := r.pools["a"].keys(); !slices.Equal(got, []string{"source"}) {
			t.Errorf("on the pool: %v", got)
		}
	})
	t.Run("ends a copy that is under way, and nothing torn is ready", func(t *testing.T) {
		var wait chan struct{}
		r := newRig(t, func(r *rig) { wait = slow(r) })
		source := r.source(t)
		r.clone(t, "copy", source)
		r.snapshot(t, "s", source)
		r.await(t, "copy", "copied", phase(v1alpha1.Creating))
		r.awaitSnapshot(t, "s", v1alpha1.Creating)
		r.attach(t, "source")
		r.stage(t, "source")
		refused(t, r.await(t, "copy", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.Precondition, host)
		s := await(t, r.store.Snapshots, "s", "failed", func(s *v1alpha1.DatastoreSnapshot) bool { return s.Status.Worker.Failure != nil })
		refused(t, s.Status.Worker, fault.Precondition, host)
		if s.Status.Worker.TakenAt != nil || s.Status.Worker.Progress != nil {
			t.Errorf("of what was thrown away it says %+v", s.Status.Worker)
		}
		r.pools["a"].set(func(m *memory) {
			if d, ok := m.deleted["snapshot/s"]; !ok || d.Policy != v1alpha1.DeleteData {
				t.Errorf("what was copied of it was not thrown away: %+v", m.deleted)
			}
		})
		close(wait)
		r.unstage(t, "source")
		r.detach(t, "source") // the snapshot was promised: it is made when it can be
		if s := r.awaitSnapshot(t, "s", v1alpha1.Ready); s.Status.Worker.Failure != nil {
			t.Errorf("failure %+v", s.Status.Worker.Failure)
		}
	})
}

func TestAPublishThatGivesWayEndsNoCopy(t *testing.T) {
	t.Run("while it is under way", func(t *testing.T) {
		var wait chan struct{}
		r := newRig(t, func(r *rig) { wait = slow(r) })
		r.clone(t, "copy", r.source(t))
		r.await(t, "copy", "copied", phase(v1alpha1.Creating))
		made := r.pools["a"].made()
		for range 3 {
			r.attach(t, "source")
			r.detach(t, "source")
		}
		close(wait)
		r.await(t, "copy", "ready", phase(v1alpha1.Ready))
		if now := r.pools["a"].made(); now != made+1 {
			t.Errorf("copied %d times", now-made)
		}
	})
	t.Run("before it begins", func(t *testing.T) {
		r := newRig(t)
		source := r.source(t)
		r.attach(t, "source")
		r.clone(t, "copy", source)
		r.detach(t, "source") // within the moment that it is given
		if v := r.await(t, "copy", "judged", func(v *v1alpha1.DatastoreVolume) bool {
			return v.Status.Worker.Phase == v1alpha1.Ready || v.Status.Worker.Phase == v1alpha1.Rejected
		}); v.Status.Worker.Phase == v1alpha1.Rejected {
			t.Logf("the machine was too slow for the moment: %+v", v.Status.Worker.Failure) // and that is right too
		}
	})
}

func TestASourceWhoseBytesAreLostRefusesTheCopy(t *testing.T) {
	r := newRig(t, instant, func(r *rig) { r.pools["a"].failCopies = fault.New(fault.DataLoss, "the image is gone") })
	r.clone(t, "copy", r.source(t))
	refused(t, r.await(t, "copy", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.DataLoss, "gone")
}

func TestASourceThatIsGoneRefusesTheCopy(t *testing.T) {
	r := newRig(t, instant)
	gone := record("gone", "a", gib)
	gone.UID = "uid"
	r.clone(t, "copy", gone)
	refused(t, r.await(t, "copy", "rejected", phase(v1alpha1.Rejected)).Status.Worker, fault.NotFound, "gone")
	r.snapshot(t, "s", gone)
	refused(t, r.awaitSnapshot(t, "s", v1alpha1.Rejected).Status.Worker, fault.NotFound, "gone")
}

func TestACopyThatIsDeletedEndsAtOnce(t *testing.T) {
	r := newRig(t, func(r *rig) { slow(r) }) // for ever
	r.clone(t, "copy", r.source(t))
	r.await(t, "copy", "copied", phase(v1alpha1.Creating))
	r.change(t, "copy", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
	r.await(t, "copy", "deleted", phase(v1alpha1.Deleted))
	r.change(t, "source", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
	r.await(t, "source", "deleted", phase(v1alpha1.Deleted))
}

func TestACopyGoesOnAfterARestart(t *testing.T) {
	var wait chan struct{}
	r := newRig(t, func(r *rig) { wait = slow(r) })
	source := r.source(t)
	r.clone(t, "copy", source)
	r.snapshot(t, "s", source)
	r.await(t, "copy", "copied", phase(v1alpha1.Creating))
	r.awaitSnapshot(t, "s", v1alpha1.Creating)
	r.stop()
	close(wait)
	r.run(t)
	r.await(t, "copy", "ready", phase(v1alpha1.Ready))
	r.awaitSnapshot(t, "s", v1alpha1.Ready)
	r.stop()
	made := r.pools["a"].made()
	// The next one finds what is made, and makes nothing twice.
	r.unready(t, "copy")
	r.attach(t, "source") // what is whole was whole before
	r.run(t)
	r.await(t, "copy", "ready", phase(v1alpha1.Ready))
	if r.pools["a"].made() != made {
		t.Error("it was copied again")
	}
}

// unready takes back what an agent wrote last, as if it had died before.
func (r *rig) unready(t *testing.T, name string) {
	t.Helper()
	v, err := r.store.Volumes.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	v = v.DeepCopy()
	v.Status.Worker = v1alpha1.WorkerStatus{Phase: v1alpha1.Creating}
	if _, err := r.store.Volumes.UpdateStatus(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

func TestLongWorkKeepsNothingElseWaiting(t *testing.T) {
	var wait chan struct{}
	wiping := make(chan struct{})
	r := newRig(t, func(r *rig) {
		wait = slow(r)
		r.pools["a"].reclaiming = wiping
	})
	source := r.source(t)
	for _, name := range []string{"c1", "c2", "c3", "c4"} { // more than there are workers
		r.clone(t, name, source)
	}
	r.await(t, "c1", "copied", phase(v1alpha1.Creating))
	r.create(t, record("v", "a", gib))
	r.await(t, "v", "ready", phase(v1alpha1.Ready))
	r.change(t, "v", func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = &v1alpha1.Deletion{} })
	r.await(t, "v", "deleted", phase(v1alpha1.Deleted))
	close(wait)
	close(wiping)
	r.await(t, "c4", "ready", phase(v1alpha1.Ready))
}

func TestTheMarkFollowsWhatIsModified(t *testing.T) {
	r := newRig(t, instant)
	source := record("source", "a", gib)
	source.Spec.OnDelete = v1alpha1.RetainData
	says := func(want v1alpha1.Marked) func(*v1alpha1.DatastoreVolume) bool {
		return func(v *v1alpha1.DatastoreVolume) bool {
			return v.Status.Worker.Marked != nil && *v.Status.Worker.Marked == want
		}
	}
	source = r.create(t, source)
	if v := r.await(t, "source", "ready", phase(v1alpha1.Ready)); !says(v1alpha1.Marked{OnDelete: v1alpha1.RetainData})(v) {
		t.Errorf("when it is made, more is to be done: %+v", v.Status.Worker)
	}
	r.pools["a"].set(func(m *memory) { m.fail = fault.New(fault.Unavailable, "cable pulled") })
	r.change(t, "source", func(v *v1alpha1.DatastoreVolume) {
		v.Spec.OnDelete, v.Spec.Wipe = v1alpha1.ArchiveData, v1alpha1.WipeZero
	})
	v := r.await(t, "source", "failed", func(v *v1alpha1.DatastoreVolume) bool { return v.Status.Worker.Failure != nil })
	if v.Status.Worker.Marked.OnDelete != v1alpha1.RetainData {
		t.Errorf("before the mark is written it says %+v", v.Status.Worker.Marked)
	}
	r.pools["a"].set(func(m *memory) { m.fail = nil })
	v = r.await(t, "source", "marked", says(v1alpha1.Marked{OnDelete: v1alpha1.ArchiveData, Wipe: v1alpha1.WipeZero}))
	if v.Status.Worker.Failure != nil || v.Status.Worker.Size.Value() != gib {
		t.Errorf("status %+v", v.Status.Worker)
	}
	r.pools["a"].set(func(m *memory) {
		if mark := m.things["source"].Volume; mark.OnDelete != v1alpha1.ArchiveData || mark.Wipe != v1alpha1.WipeZero {
			t.Errorf("the mark says %+v", mark)
		}
	})
	r.clone(t, "copy", source)
	r.await(t, "copy", "ready", phase(v1alpha1.Ready))
	r.pools["a"].set(func(m *memory) {
		if m.copied.Wipe != v1alpha1.WipeZero {
			t.Errorf("copied from %+v", m.copied)
		}
	})
}

func TestTheDeletionSaysWhatBecomesOfTheData(t *testing.T) {
	r := newRig(t)
	r.source(t)
	want := datastore.Disposal{Policy: v1alpha1.ArchiveData, Wipe: v1alpha1.WipeDiscard}
	r.change(t, "source", func(v *v1alpha1.DatastoreVolume) {
		v.Spec.Deletion = &v1alpha1.Deletion{Policy: want.Policy, Wipe: want.Wipe}
	})
	r.await(t, "source", "deleted", phase(v1alpha1.Deleted))
	if got := r.pools["a"].deleted["source"]; got != want {
		t.Errorf("disposed as %+v", got)
	}
}
