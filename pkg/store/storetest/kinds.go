package storetest

import (
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// kind is what the suite knows of one kind of record.
type kind[T any, P store.Record[T]] struct {
	name  string
	table func(*store.Store) store.Table[T]
	// labels tells that its records' names are DNS labels: at most 63 characters, and no dot.
	labels bool
	// record makes one with everything set that callers may set, and no finalizers.
	record func(name string) *T
	// setSpec and setStatus make the spec or the status say n; spec and status say what it is. A part
	// that the kind has not says 0, whatever is set.
	setSpec, setStatus func(r *T, n int)
	spec, status       func(r *T) int
	// quantity returns the text of its quantities that can be addressed.
	quantity func(r *T) string
}

func none[T any](*T) int      { return 0 }
func ignore[T any](*T, int)   {}
func noText[T any](*T) string { return "" }

// gib makes a quantity that has not yet made its text.
func gib(n int64) resource.Quantity { return *resource.NewQuantity(n<<30, resource.BinarySI) }

func text(n int) string { return strconv.Itoa(n) }

// number is the inverse of text. What was never set is 0.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{"tier": "gold"},
		Annotations: map[string]string{"note": "quotes \" and \\, lines\nand ünïcödé 🙂"},
	}
}

func datastores() kind[v1alpha1.Datastore, *v1alpha1.Datastore] {
	return kind[v1alpha1.Datastore, *v1alpha1.Datastore]{
		name: "Datastore", labels: true,
		table: func(s *store.Store) store.Table[v1alpha1.Datastore] { return s.Datastores },
		record: func(name string) *v1alpha1.Datastore {
			return &v1alpha1.Datastore{
				ObjectMeta: meta(name),
				Spec: v1alpha1.DatastoreSpec{
					Type:      v1alpha1.TypeDirectory,
					Directory: &v1alpha1.DirectorySpec{Path: "/srv/" + name},
				},
				Status: v1alpha1.DatastoreStatus{
					Health: v1alpha1.Healthy, Total: gib(3), Hosts: []string{"node-1", "node-2"},
				},
			}
		},
		setSpec:   func(r *v1alpha1.Datastore, n int) { r.Spec.Capacity.MaxVolumes = int32(n) },
		spec:      func(r *v1alpha1.Datastore) int { return int(r.Spec.Capacity.MaxVolumes) },
		setStatus: func(r *v1alpha1.Datastore, n int) { r.Status.Volumes = int32(n) },
		status:    func(r *v1alpha1.Datastore) int { return int(r.Status.Volumes) },
		quantity:  func(r *v1alpha1.Datastore) string { return r.Status.Total.String() },
	}
}

func hosts() kind[v1alpha1.DatastoreHost, *v1alpha1.DatastoreHost] {
	return kind[v1alpha1.DatastoreHost, *v1alpha1.DatastoreHost]{
		name:  "DatastoreHost",
		table: func(s *store.Store) store.Table[v1alpha1.DatastoreHost] { return s.Hosts },
		record: func(name string) *v1alpha1.DatastoreHost {
			return &v1alpha1.DatastoreHost{
				ObjectMeta: meta(name),
				Status: v1alpha1.DatastoreHostStatus{
					MachineID: "0123456789abcdef0123456789abcdef",
					BootID:    text(0),
					Pools: map[string]v1alpha1.PoolStatus{"fast": {
						UUID: "5bd9c7e2-26f8-4df6-96d5-0c3f2d2f0f6a", Health: v1alpha1.Warning, Total: gib(5),
						Findings: []v1alpha1.Finding{{Reason: "NearlyFull", Message: "81% are used"}},
					}},
				},
			}
		},
		setSpec:   ignore[v1alpha1.DatastoreHost],
		spec:      none[v1alpha1.DatastoreHost],
		setStatus: func(r *v1alpha1.DatastoreHost, n int) { r.Status.BootID = text(n) },
		status:    func(r *v1alpha1.DatastoreHost) int { return number(r.Status.BootID) },
		quantity:  noText[v1alpha1.DatastoreHost],
	}
}

func volumes() kind[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume] {
	return kind[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume]{
		name:   "DatastoreVolume",
		table:  func(s *store.Store) store.Table[v1alpha1.DatastoreVolume] { return s.Volumes },
		record: volume,
		setSpec: func(r *v1alpha1.DatastoreVolume, n int) {
			r.Spec.Attachments = map[string]v1alpha1.Attachment{"node-1": {Access: "SINGLE_NODE_WRITER", Generation: int64(n)}}
		},
		spec:      func(r *v1alpha1.DatastoreVolume) int { return int(r.Spec.Attachments["node-1"].Generation) },
		setStatus: func(r *v1alpha1.DatastoreVolume, n int) { r.Status.Worker.ObservedGeneration = int64(n) },
		status:    func(r *v1alpha1.DatastoreVolume) int { return int(r.Status.Worker.ObservedGeneration) },
		quantity: func(r *v1alpha1.DatastoreVolume) string {
			return r.Spec.Size.String() + " " + r.Status.Worker.Size.String()
		},
	}
}

func volume(name string) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: meta(name),
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: "fast", ClusterID: "cluster-1",
			Size: gib(2), Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
			Access:     v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
			Filesystem: &v1alpha1.FilesystemSpec{Type: "ext4", UUID: "9b0f4b7c-7d0c-4d5e-8a3f-1f2e3d4c5b6a"},
			Parameters: map[string]string{"datastore": "fast"},
			Worker:     v1alpha1.Worker{Host: "node-1", Epoch: 1},
		},
		Status: v1alpha1.DatastoreVolumeStatus{
			Worker: v1alpha1.WorkerStatus{
				Phase: v1alpha1.Ready, Size: gib(2), Location: name + "-0a1b2c3d",
				Failure: &v1alpha1.Failure{Reason: fault.Exhausted.String(), Message: "no room"},
			},
			Nodes: map[string]v1alpha1.NodeStatus{"node-1": {BootID: "52c4dc1e-b1ad-4b68-8cd4-25a2f5d6d5d3"}},
		},
	}
}

func snapshots() kind[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot] {
	return kind[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot]{
		name:  "DatastoreSnapshot",
		table: func(s *store.Store) store.Table[v1alpha1.DatastoreSnapshot] { return s.Snapshots },
		record: func(name string) *v1alpha1.DatastoreSnapshot {
			return &v1alpha1.DatastoreSnapshot{
				ObjectMeta: meta(name),
				Spec: v1alpha1.DatastoreSnapshotSpec{
					Name: name, Volume: "pvc-1", VolumeUID: "7f0c1f39-4a53-4d5e-9b9b-0d5c4a1f6f0e", Datastore: "fast", ClusterID: "cluster-1",
					Size: gib(2), Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
					Access:     v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
					Filesystem: &v1alpha1.FilesystemSpec{Type: "ext4", UUID: "9b0f4b7c-7d0c-4d5e-8a3f-1f2e3d4c5b6a"},
					Worker:     v1alpha1.Worker{Host: "node-1"},
				},
				Status: v1alpha1.DatastoreSnapshotStatus{Worker: v1alpha1.WorkerStatus{Size: gib(2)}},
			}
		},
		setSpec:   func(r *v1alpha1.DatastoreSnapshot, n int) { r.Spec.Worker.Epoch = int64(n) },
		spec:      func(r *v1alpha1.DatastoreSnapshot) int { return int(r.Spec.Worker.Epoch) },
		setStatus: func(r *v1alpha1.DatastoreSnapshot, n int) { r.Status.Worker.ObservedGeneration = int64(n) },
		status:    func(r *v1alpha1.DatastoreSnapshot) int { return int(r.Status.Worker.ObservedGeneration) },
		quantity: func(r *v1alpha1.DatastoreSnapshot) string {
			return r.Spec.Size.String() + " " + r.Status.Worker.Size.String()
		},
	}
}

// hasSpec and hasStatus tell whether the kind has that part.
func (k kind[T, P]) hasSpec() bool {
	r := k.record("x")
	k.setSpec(r, 7)
	return k.spec(r) == 7
}

func (k kind[T, P]) hasStatus() bool {
	r := k.record("x")
	k.setStatus(r, 7)
	return k.status(r) == 7
}

// testKinds puts one name into all tables.
func testKinds(t *testing.T, s *store.Store) {
	d := subject[v1alpha1.Datastore, *v1alpha1.Datastore]{kind: datastores(), Table: s.Datastores}
	h := subject[v1alpha1.DatastoreHost, *v1alpha1.DatastoreHost]{kind: hosts(), Table: s.Hosts}
	v := subject[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume]{kind: volumes(), Table: s.Volumes}
	n := subject[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot]{kind: snapshots(), Table: s.Snapshots}
	d.created(t, "same")
	h.gone(t, "same")
	h.created(t, "same")
	v.created(t, "same")
	n.created(t, "same")
	v.deleted(t, "same")
	v.gone(t, "same")
	wantEqual(t, "the datastore", d.got(t, "same").Spec.Directory.Path, "/srv/same")
	wantEqual(t, "the host", h.got(t, "same").Status.Pools["fast"].Health, v1alpha1.Warning)
	wantEqual(t, "the snapshot", n.got(t, "same").Spec.Volume, "pvc-1")
	v.eventuallyLists(t)
	n.eventuallyLists(t, "same")
}
