package stage

import (
	"os"
	"path/filepath"
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

func TestReconcileUndoesAStagingThatDiedAnywhere(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
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
	if points < 5 {
		t.Errorf("only %d points", points)
	}
	r.must(r.Reconcile(t.Context()))
	p, err := r.config.Mounter.Inspect(t.Context(), q.Path)
	if err != nil || !p.IsMount {
		t.Errorf("what was whole is gone: %+v, %v", p, err)
	}
}

func TestAnUnstagingThatDiedAnywhereIsFinished(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
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
	for _, content := range []string{"", "{", `{"version":99,"id":"v"}`, `{"version":1,"id":"w"}`} {
		r.must(os.WriteFile(path, []byte(content), 0o600))
		r.must(r.Reconcile(t.Context()))
		want(t, r.Unstage(t.Context(), "v", r.path("v")), fault.Internal, path)
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
}
