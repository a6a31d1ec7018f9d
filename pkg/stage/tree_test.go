package stage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// options are those of the mount at a path.
func (r *rig) options(path string) []string {
	r.t.Helper()
	all, err := r.config.Mounter.List(r.t.Context())
	r.must(err)
	for _, e := range slices.Backward(all) {
		if e.MountPoint == path {
			return e.Options
		}
	}
	r.t.Fatalf("nothing is mounted at %s", path)
	return nil
}

func TestASubdirectorysWholeLife(t *testing.T) {
	r := newRig(t)
	v := r.tree("v")
	for range 2 {
		r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
		r.must(r.Publish(t.Context(), r.publishRequest("v", v1alpha1.Filesystem)))
	}
	target := r.path("v.target")
	for _, path := range []string{r.path("v"), target} {
		for _, o := range []string{"rw", "nosuid", "nodev"} {
			if got := r.options(path); !slices.Contains(got, o) {
				t.Errorf("%s is mounted with %v", path, got)
			}
		}
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its root has mode %v, %v", info.Mode(), err)
	}
	r.must(os.WriteFile(filepath.Join(target, "f"), []byte("kept"), 0o600))
	opened, err := r.pool.Open(t.Context(), datastore.FromRecord(v), false)
	r.must(err)
	if b, err := os.ReadFile(filepath.Join(opened.Dir, "f")); string(b) != "kept" {
		t.Errorf("the volume holds %q, %v", b, err)
	}
	if stats, err := r.Stats(t.Context(), "v", target); err != nil || stats.Block || stats.TotalBytes == 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if bytes, err := r.Expand(t.Context(), "v", target, 32*mib); err != nil || bytes != 32*mib {
		t.Errorf("expanded to %d, %v", bytes, err)
	}
	_, err = r.Expand(t.Context(), "v", target, 64*mib)
	want(t, err, fault.Precondition, "expand it on its storage first")
	want(t, r.Unstage(t.Context(), "v", r.path("v")), fault.Precondition, target)
	want(t, r.pool.Delete(t.Context(), datastore.FromRecord(v), datastore.Disposal{}), fault.Precondition, "mounted at")
	for range 2 {
		r.must(r.Unpublish(t.Context(), "v", target))
		r.must(r.Unstage(t.Context(), "v", r.path("v")))
	}
	r.nothingLeft("v")
	if info, err := os.Stat(r.path("v")); err != nil || info.Mode().Perm() != stagingMode {
		t.Errorf("the staging path has mode %v, %v", info.Mode(), err)
	}
	r.must(r.pool.Delete(t.Context(), datastore.FromRecord(v), datastore.Disposal{}))
}

func TestASubdirectoryIsMountedAsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		alter   func(*Request)
		has     []string
		hasNot  []string
		refused string
	}{
		"read-only":                    {alter: func(q *Request) { q.Mode = "SINGLE_NODE_READER_ONLY" }, has: []string{"ro", "nosuid", "nodev"}},
		"read-only, by its flags":      {alter: func(q *Request) { q.MountFlags = []string{"ro"} }, has: []string{"ro"}},
		"without programs":             {alter: func(q *Request) { q.MountFlags = []string{"noexec,noatime"} }, has: []string{"noexec", "noatime", "nosuid"}},
		"with set-user-ID programs":    {alter: func(q *Request) { q.MountFlags = []string{"suid"} }, has: []string{"nodev"}, hasNot: []string{"nosuid"}},
		"with a file system's options": {alter: func(q *Request) { q.MountFlags = []string{"discard"} }, refused: "discard"},
		"with a file system":           {alter: func(q *Request) { q.Filesystem = "ext4" }, refused: "sub-directory"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.tree("v")
			q := r.request("v", v1alpha1.Filesystem)
			c.alter(&q)
			err := r.Stage(t.Context(), q)
			if c.refused != "" {
				want(t, err, fault.Invalid, c.refused)
				r.nothingLeft("v")
				return
			}
			r.must(err)
			got := r.options(r.path("v"))
			for _, o := range c.has {
				if !slices.Contains(got, o) {
					t.Errorf("options %v lack %s", got, o)
				}
			}
			for _, o := range c.hasNot {
				if slices.Contains(got, o) {
					t.Errorf("options %v", got)
				}
			}
			if slices.Contains(c.has, "ro") {
				err := os.WriteFile(filepath.Join(r.path("v"), "f"), nil, 0o600)
				if !errors.Is(err, unix.EROFS) {
					t.Errorf("it could be written to: %v", err)
				}
			}
		})
	}
}

// What is below the staging path is no volume: what is written there would be lost.
func TestAnotherDirectoryIsNeverStaged(t *testing.T) {
	r := newRig(t)
	v := r.tree("v")
	opened, err := r.pool.Open(t.Context(), datastore.FromRecord(v), false)
	r.must(err)
	r.must(os.Rename(opened.Dir, opened.Dir+".away"))
	want(t, r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)), fault.DataLoss, opened.Dir)
	r.nothingLeft("v")
	r.must(os.Symlink("/", opened.Dir))
	want(t, r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)), fault.Precondition)
	r.nothingLeft("v")
	r.must(os.Remove(opened.Dir))
	r.must(os.Rename(opened.Dir+".away", opened.Dir))
	// Another directory takes its place between the look and the mount.
	q := r.request("v", v1alpha1.Filesystem)
	swapped := false
	ctx := step.WithHook(t.Context(), func(_, what string) {
		if !swapped && strings.Contains(what, "set mode") {
			swapped = true
			r.must(os.Rename(opened.Dir, opened.Dir+".away"))
			r.must(os.Mkdir(opened.Dir, 0o700))
		}
	})
	want(t, r.Stage(ctx, q), fault.Unavailable, "another directory")
	if !swapped {
		t.Error("nothing was swapped")
	}
	r.nothingLeft("v")
	r.must(os.Remove(opened.Dir))
	r.must(os.Rename(opened.Dir+".away", opened.Dir))
	r.must(r.Stage(t.Context(), q))
}

// A mount that was taken off by hand is put back by the next Stage, and what somebody mounted there instead is left
// alone.
func TestASubdirectorysMountIsKnownByTheDirectory(t *testing.T) {
	r := newRig(t)
	r.tree("v")
	r.tree("w")
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.must(unix.Unmount(r.path("v"), 0))
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.options(r.path("v"))
	r.must(unix.Unmount(r.path("v"), 0))
	r.must(r.Stage(t.Context(), r.request("w", v1alpha1.Filesystem)))
	r.must(unix.Mount(r.path("w"), r.path("v"), "", unix.MS_BIND, ""))
	want(t, r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)), fault.Precondition, "something else is mounted")
	want(t, r.Publish(t.Context(), r.publishRequest("v", v1alpha1.Filesystem)), fault.Precondition)
}

func TestASubdirectoryIsLetGoWithoutItsDatastore(t *testing.T) {
	r := newRig(t)
	r.tree("v")
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.must(r.Publish(t.Context(), r.publishRequest("v", v1alpha1.Filesystem)))
	r.config.Set.Remove("d")
	r.must(r.Unpublish(t.Context(), "v", r.path("v.target")))
	r.must(r.Unstage(t.Context(), "v", r.path("v")))
	r.nothingLeft("v")
}

func TestReconcileKeepsAWholeSubdirectoryAndUndoesAHalf(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"whole", "half", "gone"} {
		r.tree(id)
		r.must(r.Stage(t.Context(), r.request(id, v1alpha1.Filesystem)))
	}
	r.must(unix.Unmount(r.path("half"), 0))
	gone, err := r.store.Volumes.Get(t.Context(), "gone")
	r.must(err)
	gone.Spec.Attachments = nil
	_, err = r.store.Volumes.Update(t.Context(), gone)
	r.must(err)
	r.must(r.Reconcile(t.Context()))
	r.options(r.path("whole"))
	r.nothingLeft("half")
	r.nothingLeft("gone")
}
