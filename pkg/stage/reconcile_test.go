package stage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// died is what a hook panics with where a test stops the process.
type died struct{}

// dieAt runs work and stops it just before its n-th change. It tells whether it came that far.
func dieAt(n int, work func(hook step.Hook)) (dead bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(died); !ok {
				panic(r)
			}
			dead = true
		}
	}()
	count := 0
	work(func(string, string) {
		if count++; count == n {
			panic(died{})
		}
	})
	return false
}

// restart is what a new process has in memory: nothing.
func (r *rig) restart(boot string) {
	r.config.BootID = boot
	r.busy = map[string]bool{}
}

// formats make a volume "v" of each format.
func formats() map[string]func(*rig) {
	return map[string]func(*rig){
		"an image":        func(r *rig) { r.volume("v", v1alpha1.Filesystem) },
		"a sub-directory": func(r *rig) { r.tree("v") },
	}
}

func TestReconcileUndoesAStagingThatDiedAnywhere(t *testing.T) {
	for format, make := range formats() {
		t.Run(format, func(t *testing.T) {
			r := newRig(t)
			make(r)
			q := r.request("v", v1alpha1.Filesystem)
			points := 0
			for n := 1; ; n++ {
				dead := dieAt(n, func(hook step.Hook) { r.must(r.Stage(step.WithHook(t.Context(), hook), q)) })
				r.restart("boot-1")
				if !dead {
					break
				}
				points++
				r.must(r.Reconcile(t.Context()))
				if rec, err := r.records.load("v"); err != nil || rec != nil {
					// It died after the mount: what is whole stays.
					r.must(r.Stage(t.Context(), q))
					r.must(r.Unstage(t.Context(), "v", q.Path))
				}
				r.nothingLeft("v")
			}
			if points < 4 {
				t.Errorf("only %d points", points)
			}
			r.must(r.Reconcile(t.Context()))
			p, err := r.config.Mounter.Inspect(t.Context(), q.Path)
			if err != nil || !p.IsMount {
				t.Errorf("what was whole is gone: %+v, %v", p, err)
			}
		})
	}
}

func TestAnUnstagingThatDiedAnywhereIsFinished(t *testing.T) {
	for format, make := range formats() {
		t.Run(format, func(t *testing.T) {
			r := newRig(t)
			make(r)
			q := r.request("v", v1alpha1.Filesystem)
			for n := 1; ; n++ {
				r.must(r.Stage(t.Context(), q))
				dead := dieAt(n, func(hook step.Hook) { r.must(r.Unstage(step.WithHook(t.Context(), hook), "v", q.Path)) })
				r.restart("boot-1")
				if !dead {
					break
				}
				r.must(r.Reconcile(t.Context()))
				r.must(r.Unstage(t.Context(), "v", q.Path))
				r.nothingLeft("v")
			}
		})
	}
}

func TestReconcileAfterAReboot(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	q, p := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), q))
	r.must(r.Publish(t.Context(), p))
	// A reboot takes all mounts and leaves the directories.
	r.must(r.config.Mounter.Unmount(t.Context(), p.Path))
	r.must(r.config.Mounter.Unmount(t.Context(), q.Path))
	r.restart("boot-2")
	want(t, r.Publish(t.Context(), p), fault.Precondition, "not staged")
	r.must(r.Reconcile(t.Context()))
	r.nothingLeft("v")
	r.must(r.Stage(t.Context(), q))
	r.must(r.Publish(t.Context(), p))
}

func TestReconcileTakesAPublishedVolumeFromNobody(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	q, p := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), q))
	r.must(r.Publish(t.Context(), p))
	detach := func() {
		_, err := store.Change(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
			v.Spec.Attachments = nil
			return nil
		})
		r.must(err)
	}
	detach()
	r.restart("boot-1")
	r.must(r.Reconcile(t.Context()))
	r.must(os.WriteFile(filepath.Join(p.Path, "f"), nil, 0o600))
	// Once it is unpublished, nobody wants it any more.
	r.must(r.Unpublish(t.Context(), "v", p.Path))
	r.restart("boot-1")
	r.must(r.Reconcile(t.Context()))
	r.nothingLeft("v")
}

func TestReconcileTakesBackWhatWasOnlyAnnounced(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	_, err := store.ChangeStatus(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Nodes = map[string]v1alpha1.NodeStatus{node: {BootID: "boot-1"}}
		return nil
	})
	r.must(err)
	r.must(r.Reconcile(t.Context()))
	r.nothingLeft("v")
}

func TestAStageRecordThatCannotBeUnderstoodIsKept(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir, "stage", "v.json")
	for _, content := range []string{strings.Repeat("x", 8192), "{", `{"version":99,"id":"v"}`, `{"version":1,"id":"w"}`} {
		r.must(os.WriteFile(path, []byte(content), 0o600))
		r.must(r.Reconcile(t.Context()))
		want(t, r.Unstage(t.Context(), "v", r.path("v")), fault.Internal, path)
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
}

// reattach gives the volume a new attachment, as a detach and attach that overtook the node's calls do.
func (r *rig) reattach(id string, generation int64) {
	r.t.Helper()
	_, err := store.Change(r.t.Context(), r.store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Attachments = map[string]v1alpha1.Attachment{node: {Access: writer, Generation: generation}}
		return nil
	})
	r.must(err)
}

func TestAVolumeInUseIsNeverForgottenByAStagingOfANewAttachment(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	q, p := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), q))
	r.must(r.Publish(t.Context(), p))
	r.reattach("v", 9)
	q.Generation = 9
	for n := 1; ; n++ {
		dead := dieAt(n, func(hook step.Hook) { r.must(r.Stage(step.WithHook(t.Context(), hook), q)) })
		r.restart("boot-1")
		r.must(r.Reconcile(t.Context()))
		rec, err := r.records.load("v")
		r.must(err)
		if rec == nil || rec.Device == "" || len(rec.Targets) != 1 {
			t.Fatalf("after point %d the stage record is %+v", n, rec)
		}
		v, err := r.store.Volumes.Get(t.Context(), "v")
		r.must(err)
		if len(v.Status.Nodes) != 1 {
			t.Fatalf("after point %d nothing holds the volume against deletion", n)
		}
		if !dead {
			break
		}
	}
	// The attachment goes again before the next call: what is in use stays known.
	r.reattach("v", 11)
	want(t, r.Stage(t.Context(), q), fault.Precondition, "generation 11")
	r.must(r.Unpublish(t.Context(), "v", p.Path))
	r.must(r.Unstage(t.Context(), "v", q.Path))
	r.nothingLeft("v")
}

func TestAFailedStagingOfANewAttachmentTakesNothingFromItsUser(t *testing.T) {
	r := newRig(t)
	v := r.volume("v", v1alpha1.Filesystem)
	q, p := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), q))
	r.must(r.Publish(t.Context(), p))
	r.reattach("v", 9)
	q.Generation = 9
	mark := filepath.Join(filepath.Dir(r.image(v)), "meta.json")
	r.must(os.Rename(mark, mark+".away"))
	if err := r.Stage(t.Context(), q); err == nil {
		t.Error("staged without a mark")
	}
	r.must(os.Rename(mark+".away", mark))
	if rec, err := r.records.load("v"); err != nil || rec == nil || len(rec.Targets) != 1 {
		t.Errorf("stage record %+v, %v", rec, err)
	}
	r.must(r.Unpublish(t.Context(), "v", p.Path))
	r.must(r.Unstage(t.Context(), "v", q.Path))
	r.nothingLeft("v")
}

func TestWhatIsStagedIsClaimedBeforeOthersWorkOnIt(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.restart("boot-1")
	reconcile, err := r.Claim(t.Context())
	r.must(err)
	if _, err := r.hold("v"); !fault.Is(err, fault.Busy) {
		t.Errorf("a claimed volume can be worked on: %v", err)
	}
	r.must(reconcile(t.Context()))
	release, err := r.hold("v")
	r.must(err)
	release()
}
