package recover

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// where is the host that records are made for.
type where struct{ host, bootID string }

// volumeRecord makes a volume's record of its mark.
func volumeRecord(e entry, at where) *v1alpha1.DatastoreVolume {
	v := e.found.Volume
	r := &v1alpha1.DatastoreVolume{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreVolume"},
		ObjectMeta: objectMeta(v),
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: v.Name, Datastore: e.on, ClusterID: v.ClusterID, StorageUID: types.UID(v.UID), Size: v1alpha1.Bytes(v.Bytes),
			Provisioning: v.Provisioning, Format: v.Format, Access: access(v), Filesystem: v.Filesystem, Source: source(e.found.Source),
			Quota: v.Quota, Redundancy: v.Redundancy, Stripes: int32(v.Stripes), Parameters: v.Parameters, OnDelete: v.OnDelete, Wipe: v.Wipe, Worker: v1alpha1.Worker{Host: at.host},
		},
		Status: v1alpha1.DatastoreVolumeStatus{Worker: workerStatus(e.found)},
	}
	r.Status.Worker.Promised = v1alpha1.Bytes(e.found.Made.Takes)
	r.Status.Worker.Marked = &v1alpha1.Marked{OnDelete: v.OnDelete, Wipe: v.Wipe}
	if e.used {
		r.Status.Nodes = map[string]v1alpha1.NodeStatus{at.host: {Identity: e.found.Made.Identity, BootID: at.bootID}}
	}
	return r
}

// snapshotRecord makes a snapshot's record of its mark.
func snapshotRecord(e entry, at where) *v1alpha1.DatastoreSnapshot {
	v := e.found.Volume
	r := &v1alpha1.DatastoreSnapshot{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreSnapshot"},
		ObjectMeta: objectMeta(v),
		Spec: v1alpha1.DatastoreSnapshotSpec{
			Name: v.Name, Volume: e.found.Source.ID, VolumeUID: types.UID(e.found.Source.UID), Datastore: e.on, ClusterID: v.ClusterID,
			StorageUID: types.UID(v.UID), Size: v1alpha1.Bytes(v.Bytes), Provisioning: v.Provisioning, Format: v.Format, Access: access(v),
			Filesystem: v.Filesystem, Quota: v.Quota, SnapshotSize: string(v.SnapshotSize), Wipe: v.Wipe, Parameters: v.Parameters, Worker: v1alpha1.Worker{Host: at.host},
		},
		Status: v1alpha1.DatastoreSnapshotStatus{Worker: workerStatus(e.found)},
	}
	r.Status.Worker.Promised = v1alpha1.Bytes(e.found.Made.Promised)
	if taken := e.found.Made.TakenAt; !taken.IsZero() {
		at := metav1.NewTime(taken)
		r.Status.Worker.TakenAt = &at
	}
	return r
}

func objectMeta(v datastore.Volume) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: v.ID, Labels: v.Labels, Finalizers: []string{v1alpha1.Finalizer}}
}

func access(v datastore.Volume) v1alpha1.VolumeAccess {
	return v1alpha1.VolumeAccess{Type: v.Access, Modes: slices.Sorted(slices.Values(v.Modes))}
}

func source(from *datastore.Volume) *v1alpha1.VolumeSource {
	if from == nil {
		return nil
	}
	kind := v1alpha1.SourceVolume
	if from.Snapshot {
		kind = v1alpha1.SourceSnapshot
	}
	return &v1alpha1.VolumeSource{Kind: kind, Name: from.ID, UID: types.UID(from.UID)}
}

// workerStatus is what its worker said of it once it had made it, a record's first generation.
func workerStatus(f datastore.Found) v1alpha1.WorkerStatus {
	return v1alpha1.WorkerStatus{
		ObservedGeneration: 1, Phase: v1alpha1.Ready, Size: v1alpha1.Bytes(f.Made.Bytes),
		Location: f.Made.Location, Identity: f.Made.Identity, Problems: f.Problems,
	}
}
