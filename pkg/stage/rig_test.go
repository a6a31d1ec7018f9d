package stage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const (
	node   = "node-1"
	mib    = 1 << 20
	writer = "SINGLE_NODE_WRITER"
)

// rig is a Stager over real volumes of a directory pool: real images, loop devices and mounts.
type rig struct {
	*Stager
	t     *testing.T
	dir   string
	store *store.Store
	pool  datastore.Pool
	made  []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir}
	r.must(os.MkdirAll(filepath.Join(dir, "pool"), 0o700))
	db, err := embedded.Open(t.Context(), embedded.Config{
		Path: filepath.Join(dir, "records.db"), Owner: embedded.Owner{Host: node, MachineID: "m"}, ClusterID: "c", Now: time.Now, NewUID: uuid.NewString,
	})
	r.must(err)
	r.store = db.Store()
	loops, err := loop.New(loop.Config{})
	r.must(err)
	run := command.New(command.Config{})
	set := datastore.NewSet(datastore.SetConfig{
		Types: []datastore.Type{directory.Type()}, Host: node, MachineID: "0123456789abcdef0123456789abcdef", ClusterID: "c",
		Interval: time.Hour, Patience: 10 * time.Second,
		Tools: datastore.Tools{Command: run, Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	})
	d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: v1alpha1.DatastoreSpec{
		Type: v1alpha1.TypeDirectory, Directory: &v1alpha1.DirectorySpec{Path: filepath.Join(dir, "pool")},
	}}
	d.SetDefaults()
	set.Apply(t.Context(), d, "")
	r.pool, err = set.Pool(t.Context(), "d")
	r.must(err)
	r.Stager, err = New(t.Context(), Config{
		Host: node, BootID: "boot-1", Volumes: r.store.Volumes, Set: set, Mounter: mount.New(mount.Config{}), Command: run, Dir: filepath.Join(dir, "stage"),
		FreezeLimit: time.Hour, LookLimit: time.Hour, // how fast the machine is decides nothing
	})
	r.must(err)
	t.Cleanup(func() {
		r.clean()
		r.Close()
		set.Close(context.Background())
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// volume makes a volume that is attached to the node, and its staging path.
func (r *rig) volume(id string, access v1alpha1.AccessType, alter ...func(*v1alpha1.DatastoreVolumeSpec)) *v1alpha1.DatastoreVolume {
	r.t.Helper()
	v := &v1alpha1.DatastoreVolume{ObjectMeta: metav1.ObjectMeta{Name: id}, Spec: v1alpha1.DatastoreVolumeSpec{
		Name: id, Datastore: "d", ClusterID: "c", Size: v1alpha1.Bytes(32 * mib), Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
		Access: v1alpha1.VolumeAccess{Type: access, Modes: []string{writer}}, Worker: v1alpha1.Worker{Host: node},
		Attachments: map[string]v1alpha1.Attachment{node: {Access: writer, Generation: 7}},
	}}
	if access == v1alpha1.Filesystem {
		v.Spec.Filesystem = &v1alpha1.FilesystemSpec{Type: "ext4", UUID: uuid.NewString()}
	}
	for _, a := range alter {
		a(&v.Spec)
	}
	v, err := r.store.Volumes.Create(r.t.Context(), v)
	r.must(err)
	made, err := r.pool.Create(r.t.Context(), datastore.FromRecord(v), nil, nil)
	r.must(err)
	v, err = store.ChangeStatus(r.t.Context(), r.store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Worker = v1alpha1.WorkerStatus{
			Phase: v1alpha1.Ready, Size: v1alpha1.Bytes(made.Bytes), Location: made.Location, Identity: made.Identity,
		}
		return nil
	})
	r.must(err)
	r.made = append(r.made, id)
	r.must(os.Mkdir(r.path(id), 0o750))
	return v
}

// tree makes a volume that is a directory.
func (r *rig) tree(id string) *v1alpha1.DatastoreVolume {
	r.t.Helper()
	return r.volume(id, v1alpha1.Filesystem, func(s *v1alpha1.DatastoreVolumeSpec) {
		s.Format, s.Filesystem, s.Quota = v1alpha1.FormatSubdirectory, nil, v1alpha1.QuotaNone
	})
}

func (r *rig) request(id string, access v1alpha1.AccessType) Request {
	return Request{ID: id, Generation: 7, Path: r.path(id), Access: access, Mode: writer}
}

func (r *rig) publishRequest(id string, access v1alpha1.AccessType) PublishRequest {
	return PublishRequest{ID: id, StagingPath: r.path(id), Path: r.path(id + ".target"), Access: access, Mode: writer}
}

// clean takes off whatever a test left mounted or attached.
func (r *rig) clean() {
	ctx := context.Background()
	for _, id := range r.made {
		for _, path := range []string{r.path(id + ".target"), r.path(id)} {
			if err := r.config.Mounter.Unmount(ctx, path); err != nil {
				r.t.Error(err)
			}
		}
		v, err := r.store.Volumes.Get(ctx, id)
		if err == nil {
			err = r.pool.Close(ctx, datastore.FromRecord(v))
		}
		if err != nil {
			r.t.Error(err)
		}
	}
}

// nothingLeft checks that a volume is neither mounted, recorded nor marked as used.
func (r *rig) nothingLeft(id string) {
	r.t.Helper()
	p, err := r.config.Mounter.Inspect(r.t.Context(), r.path(id))
	r.must(err)
	if p.IsMount {
		r.t.Error("the staging path is still mounted")
	}
	if rec, err := r.records.load(id); err != nil || rec != nil {
		r.t.Errorf("stage record %+v, %v", rec, err)
	}
	v, err := r.store.Volumes.Get(r.t.Context(), id)
	r.must(err)
	if len(v.Status.Nodes) > 0 {
		r.t.Errorf("nodes %+v", v.Status.Nodes)
	}
	loops, err := os.ReadFile("/proc/self/mountinfo")
	r.must(err)
	if strings.Contains(string(loops), r.path(id)) {
		r.t.Error("it is in the mount table")
	}
}

func want(t *testing.T, err error, k fault.Kind, says ...string) {
	t.Helper()
	if !fault.Is(err, k) {
		t.Errorf("got %v (%v), want %v", err, fault.KindOf(err), k)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}
