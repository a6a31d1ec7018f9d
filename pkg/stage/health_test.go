package stage

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// ailments are what Health says of volume "v", as "STATUS Reason", sorted.
func (r *rig) ailments() []string {
	r.t.Helper()
	problems, err := r.Health(r.t.Context(), "v", r.path("v"), r.path("v.target"))
	r.must(err)
	var out []string
	for _, p := range problems {
		if p.Message == "" {
			r.t.Errorf("%+v says nothing", p)
		}
		out = append(out, string(p.Status)+" "+p.Reason)
	}
	slices.Sort(out)
	return out
}

func TestHealthOfAVolume(t *testing.T) {
	image := func(r *rig) { r.volume("v", v1alpha1.Filesystem) }
	btrfs := func(r *rig) {
		r.volume("v", v1alpha1.Filesystem, func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem.Type, s.Size = "btrfs", v1alpha1.Bytes(320*mib) })
	}
	xfs := func(r *rig) {
		r.volume("v", v1alpha1.Filesystem, func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem.Type, s.Size = "xfs", v1alpha1.Bytes(320*mib) })
	}
	block := func(r *rig) { r.volume("v", v1alpha1.Block) }
	tree := func(r *rig) { r.tree("v") }
	for name, c := range map[string]struct {
		make func(*rig)
		harm func(*rig)
		want []string
	}{
		"a healthy image":                      {image, nil, nil},
		"a healthy xfs":                        {xfs, nil, nil},
		"a healthy btrfs":                      {btrfs, nil, nil},
		"a healthy raw volume":                 {block, nil, nil},
		"a healthy sub-directory":              {tree, nil, nil},
		"a target unmounted by hand":           {image, func(r *rig) { r.must(unix.Unmount(r.path("v.target"), 0)) }, []string{"INACCESSIBLE NotPublished"}},
		"a sub-directory unmounted everywhere": {tree, unmountAll, []string{"INACCESSIBLE NotMounted", "INACCESSIBLE NotPublished"}},
		"another file system mounted over it": {image, func(r *rig) {
			r.must(unix.Mount("tmpfs", r.path("v"), "tmpfs", 0, ""))
			r.t.Cleanup(func() { r.must(unix.Unmount(r.path("v"), 0)) })
		}, []string{"INACCESSIBLE OtherMount"}},
		"a file system that turned read-only": {image, func(r *rig) {
			r.must(unix.Mount("", r.path("v"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}, []string{"DEGRADED FilesystemReadOnly"}},
		"an ext4 with errors": {image, func(r *rig) {
			r.must(os.WriteFile("/sys/fs/ext4/"+filepath.Base(r.device())+"/trigger_fs_error", []byte("test"), 0))
		}, []string{"DEGRADED FilesystemErrors"}},
		"an xfs that shut down":    {xfs, func(r *rig) { r.shutDown() }, []string{"INACCESSIBLE FilesystemFails"}},
		"an image that is gone":    {image, func(r *rig) { r.must(os.Remove(r.content("disk.img"))) }, []string{"DATA_LOSS ImageGone", "DATA_LOSS ImageMissing"}},
		"a raw image that is gone": {block, func(r *rig) { r.must(os.Remove(r.content("disk.img"))) }, []string{"DATA_LOSS ImageGone", "DATA_LOSS ImageMissing"}},
		"a directory that is gone": {tree, func(r *rig) { r.must(os.Remove(r.content("data"))) }, []string{"DATA_LOSS DataMissing", "DATA_LOSS DirectoryGone"}},
		"a directory that was replaced": {tree, func(r *rig) {
			r.must(os.Rename(r.content("data"), r.content("data")+".away"))
			r.must(os.Mkdir(filepath.Join(filepath.Dir(r.record().Dir), "data"), 0o700))
		}, []string{"INACCESSIBLE DirectoryReplaced"}},
		"a device that is smaller than the volume": {block, func(r *rig) { r.grown(64 * mib) }, []string{"DATA_LOSS DeviceTooSmall"}},
		"an image that was moved away":             {image, func(r *rig) { r.must(os.Rename(r.content("disk.img"), r.path("away"))) }, []string{"DATA_LOSS ImageMissing"}},
		"a datastore that is switched off":         {tree, func(r *rig) { r.switchOff() }, []string{"DEGRADED DatastoreUnavailable"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			v, err := r.store.Volumes.Get(t.Context(), "v")
			r.must(err)
			access := v.Spec.Access.Type
			r.must(r.Stage(t.Context(), r.request("v", access)))
			r.must(r.Publish(t.Context(), r.publishRequest("v", access)))
			if c.harm != nil {
				c.harm(r)
			}
			if got := r.ailments(); !slices.Equal(got, c.want) {
				t.Errorf("it has %q, want %q", got, c.want)
			}
		})
	}
}

func unmountAll(r *rig) {
	r.must(unix.Unmount(r.path("v.target"), 0))
	r.must(unix.Unmount(r.path("v"), 0))
}

func (r *rig) record() *record {
	r.t.Helper()
	rec, err := r.records.load("v")
	r.must(err)
	return rec
}

func (r *rig) device() string { r.t.Helper(); return r.record().Device }

// content is the path of what a volume's bytes are.
func (r *rig) content(name string) string {
	r.t.Helper()
	v, err := r.store.Volumes.Get(r.t.Context(), "v")
	r.must(err)
	return filepath.Join(r.dir, "pool", "volumes", datastore.FromRecord(v).BackendName(), name)
}

// shutDown makes xfs act as after an error of its log (XFS_IOC_GOINGDOWN).
func (r *rig) shutDown() {
	r.t.Helper()
	fd, err := unix.Open(r.path("v"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	r.must(err)
	const goingDown = 0x8004587d // XFS_IOC_GOINGDOWN
	r.must(unix.IoctlSetPointerInt(fd, goingDown, 2))
	r.must(unix.Close(fd))
}

// grown says that the volume is as large, in its record only.
func (r *rig) grown(bytes int64) {
	r.change(func(w *v1alpha1.WorkerStatus) { w.Size = v1alpha1.Bytes(bytes) })
}

// switchOff makes the datastore inactive.
func (r *rig) switchOff() {
	r.t.Helper()
	d := &v1alpha1.Datastore{}
	d.Name, d.Generation = "d", 2
	d.Spec = v1alpha1.DatastoreSpec{
		Type: v1alpha1.TypeDirectory, Directory: &v1alpha1.DirectorySpec{Path: r.path("pool")}, State: v1alpha1.StateInactive,
	}
	d.SetDefaults()
	r.config.Set.Apply(r.t.Context(), d, "")
	for r.config.Set.Statuses()["d"].Health != v1alpha1.Unavailable {
		<-r.config.Set.Changed()
	}
}

func (r *rig) change(alter func(*v1alpha1.WorkerStatus)) {
	r.t.Helper()
	_, err := store.ChangeStatus(r.t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		alter(&v.Status.Worker)
		return nil
	})
	r.must(err)
}

func TestHealthOfAVolumeThatIsNotHere(t *testing.T) {
	r := newRig(t)
	_, err := r.Health(t.Context(), "v", "", "")
	want(t, err, fault.NotFound, `"v"`)
	r.volume("v", v1alpha1.Filesystem)
	if problems, err := r.Health(t.Context(), "v", "", ""); len(problems) > 0 || err != nil {
		t.Errorf("not staged: %+v, %v", problems, err)
	}
	if got := r.ailments(); !slices.Equal(got, []string{"INACCESSIBLE NotStaged"}) {
		t.Errorf("thought to be staged: %q", got)
	}
	folder := filepath.Dir(r.content("disk.img"))
	r.must(os.Rename(folder, r.path("away")))
	if got := r.ailments(); !slices.Equal(got, []string{"DATA_LOSS StorageGone", "INACCESSIBLE NotStaged"}) {
		t.Errorf("gone from its datastore: %q", got)
	}
	r.must(os.Rename(r.path("away"), folder))
	r.switchOff()
	if got := r.ailments(); !slices.Equal(got, []string{"INACCESSIBLE DatastoreUnavailable", "INACCESSIBLE NotStaged"}) {
		t.Errorf("on a datastore that is switched off: %q", got)
	}
	r = newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	problems, err := r.Health(t.Context(), "v", r.path("elsewhere"), "")
	if err != nil || len(problems) != 1 || problems[0].Reason != "StagedElsewhere" {
		t.Errorf("thought to be elsewhere: %+v, %v", problems, err)
	}
}

func TestADeviceThatDoesNotAnswerHoldsNobody(t *testing.T) {
	r := newRig(t)
	r.config.LookLimit = 10 * time.Millisecond
	answer, looks := make(chan struct{}), make(chan struct{}, 2)
	hang := func(context.Context) []v1alpha1.Problem {
		looks <- struct{}{}
		<-answer
		return nil
	}
	for range 3 { // the second and third begin no look of their own
		problems, err := r.within(t.Context(), "v", hang)
		if err != nil || len(problems) != 1 || problems[0].Reason != "NoAnswer" {
			t.Fatalf("%+v, %v", problems, err)
		}
	}
	if <-looks; len(looks) > 0 {
		t.Error("a second look was begun")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.within(canceled, "w", hang)
	want(t, err, fault.Unavailable)
	close(answer)
	r.config.LookLimit = time.Minute
	well := func(context.Context) []v1alpha1.Problem { return nil }
	for problems := []v1alpha1.Problem{{}}; len(problems) > 0; { // until the look that hung has ended
		problems, err = r.within(t.Context(), "v", well)
		r.must(err)
	}
}

func TestStorageHealthNamesEachConditionOnce(t *testing.T) {
	r := newRig(t)
	if got := r.StorageHealth(); len(got) > 0 {
		t.Errorf("well: %+v", got)
	}
	for _, name := range []string{"gone-b", "gone-a"} {
		d := &v1alpha1.Datastore{}
		d.Name, d.Spec.Type = name, v1alpha1.TypeDirectory
		d.Spec.Directory = &v1alpha1.DirectorySpec{Path: r.path(name)}
		d.SetDefaults()
		r.config.Set.Apply(t.Context(), d, "")
	}
	r.config.Set.Settle(t.Context())
	got := r.StorageHealth()
	if len(got) != 1 || !got[0].Unreachable || got[0].Reason != "Unavailable" {
		t.Fatalf("two that are gone: %+v", got)
	}
	a, b := strings.Index(got[0].Message, `"gone-a"`), strings.Index(got[0].Message, `"gone-b"`)
	if a < 0 || b < a {
		t.Errorf("the message %q", got[0].Message)
	}
	r.switchOff()
	got = r.StorageHealth()
	if len(got) != 2 || got[0].Unreachable || got[0].Reason != "Inactive" {
		t.Errorf("one that is switched off: %+v", got)
	}
}

func TestAVolumeWhoseStageRecordIsLostIsWellAllTheSame(t *testing.T) {
	for format, make := range formats() {
		t.Run(format, func(t *testing.T) {
			r := newRig(t)
			make(r)
			r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
			r.must(r.Publish(t.Context(), r.publishRequest("v", v1alpha1.Filesystem)))
			r.must(r.records.remove(t.Context(), "v"))
			if got := r.ailments(); len(got) > 0 {
				t.Errorf("it has %q", got)
			}
		})
	}
}
