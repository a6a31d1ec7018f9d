package stage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestAVolumesWayInAndOutTwice(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	stage, publish := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	for range 2 {
		r.must(r.Stage(t.Context(), stage))
	}
	for range 2 {
		r.must(r.Publish(t.Context(), publish))
	}
	file := filepath.Join(publish.Path, "f")
	r.must(os.WriteFile(file, []byte("data"), 0o600))
	stats, err := r.Stats(t.Context(), "v", publish.Path)
	if err != nil || stats.TotalBytes < 16*mib || stats.TotalInodes == 0 || stats.UsedInodes == 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	want(t, r.Unstage(t.Context(), "v", stage.Path), fault.Precondition, publish.Path)
	for range 2 {
		r.must(r.Unpublish(t.Context(), "v", publish.Path))
	}
	if _, err := os.Stat(publish.Path); !os.IsNotExist(err) {
		t.Errorf("the target is left: %v", err)
	}
	for range 2 {
		r.must(r.Unstage(t.Context(), "v", stage.Path))
	}
	r.nothingLeft("v")
	r.must(r.Stage(t.Context(), stage))
	if got, err := os.ReadFile(filepath.Join(stage.Path, "f")); err != nil || string(got) != "data" {
		t.Errorf("read back %q, %v", got, err)
	}
}

func TestStageRefuses(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	good := r.request("v", v1alpha1.Filesystem)
	for name, c := range map[string]struct {
		alter func(*Request)
		kind  fault.Kind
	}{
		"an unknown volume":             {func(q *Request) { q.ID = "w" }, fault.NotFound},
		"an old attachment":             {func(q *Request) { q.Generation = 6 }, fault.Precondition},
		"another access":                {func(q *Request) { q.Access = v1alpha1.Block }, fault.Invalid},
		"another file system":           {func(q *Request) { q.Filesystem = "xfs" }, fault.Invalid},
		"a mount flag that is not ours": {func(q *Request) { q.MountFlags = []string{"bind"} }, fault.Invalid},
		"a relative path":               {func(q *Request) { q.Path = "x" }, fault.Invalid},
		"a path that is not there":      {func(q *Request) { q.Path = r.path("nowhere") }, fault.Precondition},
		"a path that is a file":         {func(q *Request) { q.Path = r.path("records.db") }, fault.Precondition},
	} {
		t.Run(name, func(t *testing.T) {
			q := good
			c.alter(&q)
			want(t, r.Stage(t.Context(), q), c.kind)
			r.nothingLeft("v")
		})
	}
	r.must(r.Stage(t.Context(), good))
	other := good
	other.MountFlags = []string{"noatime"}
	want(t, r.Stage(t.Context(), other), fault.Exists, "noatime")
	other = good
	other.Path = r.path("v2")
	want(t, r.Stage(t.Context(), other), fault.Precondition, good.Path)
}

// image returns the path of a volume's bytes.
func (r *rig) image(v *v1alpha1.DatastoreVolume) string {
	return filepath.Join(r.dir, "pool", v.Status.Worker.Location, "disk.img")
}

func TestAVolumeIsNeverFormattedAgain(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		damage func(t *testing.T, v *v1alpha1.DatastoreVolume)
		kind   fault.Kind
		says   string
	}{
		"that reads blank": {func(t *testing.T, v *v1alpha1.DatastoreVolume) {
			r.must(os.Truncate(r.image(v), 0))
			r.must(os.Truncate(r.image(v), 32*mib))
		}, fault.DataLoss, "blank"},
		"that bears another file system": {func(t *testing.T, v *v1alpha1.DatastoreVolume) {
			r.must(os.Truncate(r.image(v), 0))
			r.must(os.Truncate(r.image(v), 32*mib))
			r.must(filesystem.Make(t.Context(), r.config.Command, r.image(v), filesystem.Format{Type: filesystem.Ext4, UUID: uuid.NewString(), SectorSize: 512, Zeroed: true}))
		}, fault.Precondition, "left alone"},
		"that bears noise": {func(t *testing.T, v *v1alpha1.DatastoreVolume) {
			r.must(os.WriteFile(r.image(v), bytes.Repeat([]byte("noise…"), 32*mib/8), 0o600))
			r.must(os.Truncate(r.image(v), 32*mib))
		}, fault.Precondition, "left alone"},
		"of which another identity is recorded": {func(t *testing.T, v *v1alpha1.DatastoreVolume) {
			_, err := store.ChangeStatus(t.Context(), r.store.Volumes, v.Name, func(v *v1alpha1.DatastoreVolume) error {
				v.Status.Worker.Identity = "somebody else"
				return nil
			})
			r.must(err)
		}, fault.Precondition, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			id := "pvc-" + uuid.NewString()
			v := r.volume(id, v1alpha1.Filesystem)
			c.damage(t, v)
			before, err := os.ReadFile(r.image(v))
			r.must(err)
			want(t, r.Stage(t.Context(), r.request(id, v1alpha1.Filesystem)), c.kind, c.says)
			after, err := os.ReadFile(r.image(v))
			r.must(err)
			if !bytes.Equal(before, after) {
				t.Error("its bytes were changed")
			}
			r.nothingLeft(id)
		})
	}
}

func TestPublishBindsNothingButTheStagedMount(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	stage, publish := r.request("v", v1alpha1.Filesystem), r.publishRequest("v", v1alpha1.Filesystem)
	want(t, r.Publish(t.Context(), publish), fault.Precondition, "not staged")
	r.must(r.Stage(t.Context(), stage))
	r.must(r.config.Mounter.Unmount(t.Context(), stage.Path)) // somebody's hand
	want(t, r.Publish(t.Context(), publish), fault.Precondition, "not mounted at its staging path")
	if _, err := os.Stat(publish.Path); !os.IsNotExist(err) {
		t.Errorf("a target was made for nothing: %v", err)
	}
	r.must(r.Stage(t.Context(), stage))
	inside := publish
	inside.Path = filepath.Join(stage.Path, "x")
	want(t, r.Publish(t.Context(), inside), fault.Invalid)
	r.must(r.Publish(t.Context(), publish))
	second := publish
	second.Path = r.path("second")
	want(t, r.Publish(t.Context(), second), fault.Precondition, writer)
	readOnly := publish
	readOnly.ReadOnly = true
	want(t, r.Publish(t.Context(), readOnly), fault.Exists, "read-only")
}

func TestUnpublishLeavesWhatIsNotTheVolumesAlone(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.volume("w", v1alpha1.Filesystem)
	for _, id := range []string{"v", "w"} {
		r.must(r.Stage(t.Context(), r.request(id, v1alpha1.Filesystem)))
		r.must(r.Publish(t.Context(), r.publishRequest(id, v1alpha1.Filesystem)))
	}
	want(t, r.Unpublish(t.Context(), "v", r.path("w.target")), fault.Precondition, "left alone")
	want(t, r.Unpublish(t.Context(), "nobody", r.path("w.target")), fault.Precondition, "left alone")
	want(t, r.Unpublish(t.Context(), "v", r.path("v")), fault.Invalid, "staging path")
	want(t, r.Unpublish(t.Context(), "v", "/"), fault.Invalid)
	full := r.path("full")
	r.must(os.Mkdir(full, 0o700))
	r.must(os.WriteFile(filepath.Join(full, "precious"), nil, 0o600))
	want(t, r.Unpublish(t.Context(), "v", full), fault.Precondition, full)
	if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
		t.Error(err)
	}
}

func TestARawBlockVolume(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Block)
	stage, publish := r.request("v", v1alpha1.Block), r.publishRequest("v", v1alpha1.Block)
	r.must(r.Stage(t.Context(), stage))
	r.must(r.Publish(t.Context(), publish))
	r.must(r.Publish(t.Context(), publish))
	f, err := os.OpenFile(publish.Path, os.O_RDWR|os.O_SYNC, 0)
	r.must(err)
	_, err = f.WriteAt([]byte("raw bytes"), mib)
	r.must(err)
	r.must(f.Close())
	if s, err := r.Stats(t.Context(), "v", publish.Path); err != nil || !s.Block || s.TotalBytes != 32*mib {
		t.Errorf("stats %+v, %v", s, err)
	}
	r.must(r.Unpublish(t.Context(), "v", publish.Path))

	publish.ReadOnly = true
	r.must(r.Publish(t.Context(), publish))
	if f, err := os.OpenFile(publish.Path, os.O_RDWR, 0); err == nil {
		_, err = f.WriteAt([]byte("x"), 0)
		if err == nil {
			t.Error("a read-only device takes writes")
		}
		r.must(f.Close())
	}
	r.must(r.Unpublish(t.Context(), "v", publish.Path))
	r.must(r.Unstage(t.Context(), "v", stage.Path))
	r.nothingLeft("v")
}

func TestMountOptions(t *testing.T) {
	for name, c := range map[string]struct {
		flags    []string
		readOnly bool
		want     []string
	}{
		"by default no set-user-ID bits and device nodes": {nil, false, []string{"nodev", "nosuid"}},
		"unless the class says otherwise":                 {[]string{"suid", "dev"}, false, []string{"dev", "suid"}},
		"read-only":                                       {nil, true, []string{"nodev", "nosuid", "ro"}},
		"sorted and once":                                 {[]string{"noatime", "nosuid", "noatime"}, false, []string{"noatime", "nodev", "nosuid"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mountOptions(filesystem.Ext4, c.flags, c.readOnly)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestExpandRefreshesTheDevice(t *testing.T) {
	r := newRig(t)
	v := r.volume("v", v1alpha1.Block)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Block)))
	_, err := r.Expand(t.Context(), "v", r.path("v"), 64*mib)
	want(t, err, fault.Precondition, "ControllerExpandVolume")
	larger := datastore.FromRecord(v)
	larger.Bytes = 64 * mib
	_, err = r.pool.Expand(t.Context(), larger)
	r.must(err)
	if got, err := r.Expand(t.Context(), "v", r.path("v"), 64*mib); err != nil || got != 64*mib {
		t.Errorf("got %d, %v", got, err)
	}
	_, err = r.Expand(t.Context(), "v", r.path("elsewhere"), 0)
	want(t, err, fault.NotFound)
	_, err = r.Expand(t.Context(), "w", r.path("v"), 0)
	want(t, err, fault.NotFound)
}

func TestReadOnlyModesAndOptionsArePublishedReadOnly(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		stage   func(*Request)
		publish func(*PublishRequest)
	}{
		"the mode of the publish":   {func(*Request) {}, func(q *PublishRequest) { q.Mode = "SINGLE_NODE_READER_ONLY" }},
		"the mode of the staging":   {func(q *Request) { q.Mode = "SINGLE_NODE_READER_ONLY" }, func(*PublishRequest) {}},
		"an option of the class":    {func(q *Request) { q.MountFlags = []string{"ro"} }, func(*PublishRequest) {}},
		"an option of the publish":  {func(*Request) {}, func(q *PublishRequest) { q.MountFlags = []string{"ro"} }},
		"a read-only publish alone": {func(*Request) {}, func(q *PublishRequest) { q.ReadOnly = true }},
	} {
		t.Run(name, func(t *testing.T) {
			id := "pvc-" + uuid.NewString()
			r.volume(id, v1alpha1.Filesystem)
			stage, publish := r.request(id, v1alpha1.Filesystem), r.publishRequest(id, v1alpha1.Filesystem)
			c.stage(&stage)
			c.publish(&publish)
			r.must(r.Stage(t.Context(), stage))
			r.must(r.Publish(t.Context(), publish))
			if err := os.WriteFile(filepath.Join(publish.Path, "f"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("a write: %v", err)
			}
			r.must(r.Unpublish(t.Context(), id, publish.Path))
			r.must(r.Unstage(t.Context(), id, stage.Path))
		})
	}
	id := "pvc-" + uuid.NewString()
	r.volume(id, v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request(id, v1alpha1.Filesystem)))
	bad := r.publishRequest(id, v1alpha1.Filesystem)
	bad.MountFlags = []string{"password=secret"}
	err := r.Publish(t.Context(), bad)
	want(t, err, fault.Invalid, "password")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells the value", err)
	}
}

func TestUnpublishOfAnUnknownVolumeTouchesNothing(t *testing.T) {
	r := newRig(t)
	theirs := r.path("theirs")
	r.must(os.Mkdir(theirs, 0o700))
	r.must(r.Unpublish(t.Context(), "nobody", theirs))
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Unpublish(t.Context(), "v", theirs)) // what a reboot left of a target
	if _, err := os.Stat(theirs); !os.IsNotExist(err) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

// A volume that is larger than its file system (a restore, an expansion while it was not in use) is grown by the staging
// after one that died before it had.
func TestAGrowthThatDiedIsDoneByTheNextStaging(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			r := newRig(t)
			v := r.volume("v", v1alpha1.Filesystem, func(s *v1alpha1.DatastoreVolumeSpec) {
				s.Filesystem.Type, s.Size = fs, v1alpha1.Bytes(320*mib)
			})
			larger := datastore.FromRecord(v)
			larger.Bytes = 640 * mib
			_, err := r.pool.Expand(t.Context(), larger)
			r.must(err)
			q := r.request("v", v1alpha1.Filesystem)
			func() {
				defer func() { _ = recover() }()
				_ = r.Stage(step.WithHook(t.Context(), func(_, what string) {
					if strings.HasPrefix(what, "grow ") {
						panic("died")
					}
				}), q)
				t.Error("it was not grown")
			}()
			r.restart("boot-1")
			r.must(r.Reconcile(t.Context()))
			for range 2 {
				r.must(r.Stage(t.Context(), q))
				if s, err := r.Stats(t.Context(), "v", q.Path); err != nil || s.TotalBytes < 500*mib {
					t.Errorf("its user sees %d bytes, %v", s.TotalBytes, err)
				}
			}
		})
	}
}
