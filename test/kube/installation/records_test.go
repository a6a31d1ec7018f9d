package installation

import (
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// administrator has every right, and no policy holds it.
func administrator(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	if err := plane.Call(t.Context(), method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// makeVolume makes a volume's record with what the controller and the hosts have written: it lies on worker, and the hosts use it.
func makeVolume(t *testing.T, name, worker string, users ...string) {
	t.Helper()
	v := &v1alpha1.DatastoreVolume{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion("DatastoreVolume"), Kind: "DatastoreVolume"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: "fast", ClusterID: "test", Size: resource.MustParse("1Gi"), Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
			Access:      v1alpha1.VolumeAccess{Type: v1alpha1.Block, Modes: []string{"SINGLE_NODE_WRITER"}},
			Worker:      v1alpha1.Worker{Host: worker},
			Attachments: map[string]v1alpha1.Attachment{},
		},
		Status: v1alpha1.DatastoreVolumeStatus{
			Worker: v1alpha1.WorkerStatus{Phase: v1alpha1.Ready, Size: resource.MustParse("1Gi"), Location: "volumes/" + name, Identity: name},
			Nodes:  map[string]v1alpha1.NodeStatus{},
		},
	}
	for _, host := range users {
		v.Spec.Attachments[host] = v1alpha1.Attachment{Access: "SINGLE_NODE_WRITER", Generation: 1}
		v.Status.Nodes[host] = v1alpha1.NodeStatus{Identity: name, BootID: "boot"}
	}
	store(t, volumes, name, v)
}

func makeSnapshot(t *testing.T, name, worker string) {
	t.Helper()
	store(t, snapshots, name, &v1alpha1.DatastoreSnapshot{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion("DatastoreSnapshot"), Kind: "DatastoreSnapshot"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.DatastoreSnapshotSpec{
			Name: name, Volume: "v", VolumeUID: "1d8ec3f2-6d34-4f0e-9a3c-0f6d4f0f8b51", Datastore: "fast", ClusterID: "test", Size: resource.MustParse("1Gi"),
			Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
			Access: v1alpha1.VolumeAccess{Type: v1alpha1.Block, Modes: []string{"SINGLE_NODE_WRITER"}},
			Worker: v1alpha1.Worker{Host: worker},
		},
		Status: v1alpha1.DatastoreSnapshotStatus{Worker: v1alpha1.WorkerStatus{Phase: v1alpha1.Ready, Size: resource.MustParse("1Gi"), Location: name}},
	})
}

func makeHost(t *testing.T, name string) {
	t.Helper()
	store(t, hosts, name, map[string]any{
		"apiVersion": apiVersion("DatastoreHost"), "kind": "DatastoreHost", "metadata": map[string]any{"name": name},
		"status": map[string]any{"machineID": "0123456789abcdef0123456789abcdef", "bootID": "boot", "poolCount": 0},
	})
}

// store makes a record and its status, which the API server takes in two requests.
func store(t *testing.T, path, name string, record any) {
	t.Helper()
	var made map[string]any
	administrator(t, http.MethodPost, path, record, &made)
	status, err := decoded(record)
	if err != nil {
		t.Fatal(err)
	}
	made["status"] = status["status"]
	administrator(t, http.MethodPut, path+"/"+name+"/status", made, nil)
}
