package stage

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// recovered makes a volume whose record was made anew of its mark, which bears another UID.
func (r *rig) recovered(id string, kind string) *v1alpha1.DatastoreVolume {
	other := func(s *v1alpha1.DatastoreVolumeSpec) { s.StorageUID = "11111111-2222-3333-4444-555555555555" }
	switch kind {
	case "block":
		return r.volume(id, v1alpha1.Block, other)
	case "tree":
		return r.volume(id, v1alpha1.Filesystem, other, func(s *v1alpha1.DatastoreVolumeSpec) {
			s.Format, s.Filesystem, s.Quota = v1alpha1.FormatSubdirectory, nil, v1alpha1.QuotaNone
		})
	}
	return r.volume(id, v1alpha1.Filesystem, other, func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem.Type = kind })
}

// used tells whether anything on this host uses the volume.
func (r *rig) used(id string) bool {
	r.t.Helper()
	v, err := r.store.Volumes.Get(r.t.Context(), id)
	r.must(err)
	used, err := datastore.InUse(r.t.Context(), r.pool, datastore.FromRecord(v))
	r.must(err)
	return used
}

func TestAVolumeInUseWhoseStageRecordIsLostIsTakenOff(t *testing.T) {
	for _, kind := range []string{"ext4", "block", "tree"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t)
			ctx := t.Context()
			access := r.recovered("v", kind).Spec.Access.Type
			r.must(r.Stage(ctx, r.request("v", access)))
			q := r.publishRequest("v", access)
			r.must(r.Publish(ctx, q))
			r.must(r.records.remove(ctx, "v"))

			r.must(r.Reconcile(ctx))
			if v, err := r.store.Volumes.Get(ctx, "v"); err != nil || len(v.Status.Nodes) != 1 {
				t.Fatalf("its record says %+v, %v", v.Status.Nodes, err)
			}
			if access == v1alpha1.Filesystem {
				want(t, r.Unstage(ctx, "v", r.path("v")), fault.Precondition, "mounted at "+q.Path)
			}
			r.must(r.Unpublish(ctx, "v", q.Path))
			if _, err := os.Lstat(q.Path); !os.IsNotExist(err) {
				t.Errorf("the target is still there: %v", err)
			}
			r.must(r.Unpublish(ctx, "v", q.Path))
			r.must(r.Unstage(ctx, "v", r.path("v")))
			r.nothingLeft("v")
			if r.used("v") {
				t.Error("it is still in use")
			}
			r.must(r.Unstage(ctx, "v", r.path("v")))
			r.must(r.Stage(ctx, r.request("v", access)))
			r.must(r.Unstage(ctx, "v", r.path("v")))
			r.nothingLeft("v")
		})
	}
}

func TestARawVolumeThatIsPublishedReadOnlyIsFoundWithoutItsStageRecord(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.recovered("v", "block")
	r.must(r.Stage(ctx, r.request("v", v1alpha1.Block)))
	q := r.publishRequest("v", v1alpha1.Block)
	q.ReadOnly = true
	r.must(r.Publish(ctx, q))
	r.must(r.records.remove(ctx, "v"))
	r.must(r.Unpublish(ctx, "v", q.Path))
	r.must(r.Unstage(ctx, "v", r.path("v")))
	r.nothingLeft("v")
	if r.used("v") {
		t.Error("it is still in use")
	}
}

func TestWithoutStageRecordAStrangersMountIsLeftAlone(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.recovered("v", "ext4")
	r.must(r.Stage(ctx, r.request("v", v1alpha1.Filesystem)))
	r.must(r.records.remove(ctx, "v"))
	for _, name := range []string{"target", "staging"} {
		path := r.path(name)
		r.must(os.Mkdir(path, 0o700))
		r.must(unix.Mount("tmpfs", path, "tmpfs", 0, ""))
		t.Cleanup(func() {
			if err := unix.Unmount(path, 0); err != nil {
				t.Error(err)
			}
		})
	}
	want(t, r.Unpublish(ctx, "v", r.path("target")), fault.Precondition, "not this volume")
	want(t, r.Unstage(ctx, "v", r.path("staging")), fault.Precondition, "not this volume")
	want(t, r.Unstage(ctx, "v", r.path("elsewhere")), fault.Precondition, "mounted at "+r.path("v"))
	r.must(r.Unstage(ctx, "v", r.path("v")))
	r.nothingLeft("v")
}

func TestWhatIsNotInUseIsRetractedAtTheStart(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.recovered("v", "ext4")
	r.must(r.Stage(ctx, r.request("v", v1alpha1.Filesystem)))
	r.must(r.config.Mounter.Unmount(ctx, r.path("v"))) // by hand, and its device too
	v, err := r.store.Volumes.Get(ctx, "v")
	r.must(err)
	r.must(r.pool.Close(ctx, datastore.FromRecord(v)))
	r.must(r.records.remove(ctx, "v"))
	r.must(r.Reconcile(ctx))
	r.nothingLeft("v")
}
