package kube_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
)

// volume makes the record of a volume whose worker is a host, as the controller does.
func volume(name, host string) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: "fast", ClusterID: "cluster-1", Size: v1alpha1.Bytes(1 << 30),
			Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
			Access:     v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
			Filesystem: &v1alpha1.FilesystemSpec{Type: "ext4", UUID: "9b0f4b7c-7d0c-4d5e-8a3f-1f2e3d4c5b6a"},
			Parameters: map[string]string{"datastore": "fast"}, Worker: v1alpha1.Worker{Host: host},
		},
	}
}

// as gives the config of a user without rights of its own.
func as(t *testing.T, user string) *rest.Config {
	t.Helper()
	path, err := plane.User(user)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// raw gets a path with an Accept header.
func raw(t *testing.T, path, accept string) []byte {
	t.Helper()
	client, err := rest.HTTPClientFor(ready(t))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, plane.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", path, response.Status, err, body)
	}
	return body
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func TestWhatAVolumeWasMadeWithStays(t *testing.T) {
	ready(t)
	empty(t)
	volumes := open(t, kube.Config{}).Volumes
	if _, err := volumes.Create(t.Context(), volume("v", "node-1")); err != nil {
		t.Fatal(err)
	}
	order := &v1alpha1.Deletion{Policy: v1alpha1.DeleteData, RequestedAt: metav1.Now().Rfc3339Copy()}
	for what, c := range map[string]struct {
		alter   func(*v1alpha1.DatastoreVolumeSpec)
		refused bool
	}{
		"name":    {func(s *v1alpha1.DatastoreVolumeSpec) { s.Name = "other" }, true},
		"cluster": {func(s *v1alpha1.DatastoreVolumeSpec) { s.ClusterID = "other" }, true},
		"access": {func(s *v1alpha1.DatastoreVolumeSpec) {
			s.Access.Modes = append(s.Access.Modes, "MULTI_NODE_READER_ONLY")
		}, true},
		"provisioning":   {func(s *v1alpha1.DatastoreVolumeSpec) { s.Provisioning = v1alpha1.Thick }, true},
		"format":         {func(s *v1alpha1.DatastoreVolumeSpec) { s.Format = v1alpha1.FormatDevice }, true},
		"file system":    {func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem.Type = "xfs" }, true},
		"no file system": {func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem = nil }, true},
		"UUID":           {func(s *v1alpha1.DatastoreVolumeSpec) { s.Filesystem.UUID = "0b0f4b7c-7d0c-4d5e-8a3f-1f2e3d4c5b6a" }, true},
		"source": {func(s *v1alpha1.DatastoreVolumeSpec) {
			s.Source = &v1alpha1.VolumeSource{Kind: "Volume", Name: "a", UID: "b"}
		}, true},
		"parameters":         {func(s *v1alpha1.DatastoreVolumeSpec) { s.Parameters["datastore"] = "slow" }, true},
		"no parameters":      {func(s *v1alpha1.DatastoreVolumeSpec) { s.Parameters = nil }, true},
		"stripes":            {func(s *v1alpha1.DatastoreVolumeSpec) { s.Stripes = 2 }, true},
		"worker":             {func(s *v1alpha1.DatastoreVolumeSpec) { s.Worker.Host = "node-2" }, true},
		"datastore":          {func(s *v1alpha1.DatastoreVolumeSpec) { s.Datastore = "slow" }, true},
		"no size":            {func(s *v1alpha1.DatastoreVolumeSpec) { s.Size = v1alpha1.Bytes(0) }, true},
		"size":               {func(s *v1alpha1.DatastoreVolumeSpec) { s.Size = v1alpha1.Bytes(2 << 30) }, false},
		"what becomes of it": {func(s *v1alpha1.DatastoreVolumeSpec) { s.OnDelete, s.Wipe = v1alpha1.RetainData, v1alpha1.WipeZero }, false},
		"attachment": {func(s *v1alpha1.DatastoreVolumeSpec) {
			s.Attachments = map[string]v1alpha1.Attachment{"node-1": {Access: "SINGLE_NODE_WRITER", Generation: 2}}
		}, false},
	} {
		_, err := store.Change(t.Context(), volumes, "v", func(v *v1alpha1.DatastoreVolume) error { c.alter(&v.Spec); return nil })
		if c.refused != fault.Is(err, fault.Invalid) || (!c.refused && err != nil) {
			t.Errorf("another %s: refused should be %t: %v", what, c.refused, err)
		}
	}
	must(t, volumes, func(v *v1alpha1.DatastoreVolume) { v.Spec.Deletion = order })
	for what, alter := range map[string]func(*v1alpha1.DatastoreVolume) error{
		"taken back": func(v *v1alpha1.DatastoreVolume) error { v.Spec.Deletion = nil; return nil },
		"altered":    func(v *v1alpha1.DatastoreVolume) error { v.Spec.Deletion.Policy = v1alpha1.RetainData; return nil },
	} {
		if _, err := store.Change(t.Context(), volumes, "v", alter); !fault.Is(err, fault.Invalid) {
			t.Errorf("an order to delete was %s: %v", what, err)
		}
	}
}

func must(t *testing.T, volumes store.Table[v1alpha1.DatastoreVolume], alter func(*v1alpha1.DatastoreVolume)) {
	t.Helper()
	if _, err := store.Change(t.Context(), volumes, "v", func(v *v1alpha1.DatastoreVolume) error { alter(v); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAWorkerChangesAfterARejectionOrWithAnEpoch(t *testing.T) {
	ready(t)
	empty(t)
	volumes := open(t, kube.Config{}).Volumes
	if _, err := volumes.Create(t.Context(), volume("v", "node-1")); err != nil {
		t.Fatal(err)
	}
	must(t, volumes, func(v *v1alpha1.DatastoreVolume) { v.Spec.Worker = v1alpha1.Worker{Host: "node-2", Epoch: 1} })
	if _, err := store.ChangeStatus(t.Context(), volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Worker.Phase = v1alpha1.Rejected
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	must(t, volumes, func(v *v1alpha1.DatastoreVolume) { v.Spec.Worker.Host, v.Spec.Datastore = "node-3", "slow" })
	if _, err := store.Change(t.Context(), volumes, "v", func(v *v1alpha1.DatastoreVolume) error { v.Spec.Worker.Epoch = 0; return nil }); !fault.Is(err, fault.Invalid) {
		t.Errorf("an epoch that goes back: %v", err)
	}
}

func TestAnAgentHearsOfItsOwnVolumesOnly(t *testing.T) {
	ready(t)
	empty(t)
	all, mine := open(t, kube.Config{}).Volumes, open(t, kube.Config{Worker: "node-1"}).Volumes
	w, err := mine.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for name, host := range map[string]string{"a": "node-1", "b": "node-2", "c": "node-1"} {
		if _, err := all.Create(t.Context(), volume(name, host)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	told(t, w, func(e store.Event[v1alpha1.DatastoreVolume]) bool { seen[e.Name] = true; return len(seen) == 2 })
	if seen["b"] {
		t.Error("it heard of another's")
	}
	if listed, err := mine.List(t.Context()); err != nil || len(listed) != 2 {
		t.Errorf("%d are listed, %v", len(listed), err)
	}
	if _, err := mine.Get(t.Context(), "b"); err != nil {
		t.Errorf("another's can't be read: %v", err)
	}
	if _, err := store.Change(t.Context(), all, "a", func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Worker = v1alpha1.Worker{Host: "node-2", Epoch: 1}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	told(t, w, func(e store.Event[v1alpha1.DatastoreVolume]) bool { return e.Name == "a" && e.Record == nil })
}

func TestWritesLeaveOthersFieldsTheirOwners(t *testing.T) {
	ready(t)
	empty(t)
	volumes := open(t, kube.Config{}).Volumes
	made, err := volumes.Create(t.Context(), volume("v", "node-1"))
	if err != nil {
		t.Fatal(err)
	}
	if made.ManagedFields != nil {
		t.Error("a record carries who wrote what, which nobody here needs")
	}
	must(t, volumes, func(v *v1alpha1.DatastoreVolume) { v.Labels = map[string]string{"a": "b"} })
	var stored metav1.PartialObjectMetadata
	if err := plane.Call(t.Context(), http.MethodGet, groupPath+"datastorevolumes/v", nil, &stored); err != nil {
		t.Fatal(err)
	}
	if len(stored.ManagedFields) == 0 {
		t.Error("a write removed who wrote what")
	}
}

// Deleting the record, or all records with their CRD, removes nothing that the finalizer holds.
func TestNobodyDeletesARecordThatIsHeld(t *testing.T) {
	ready(t)
	empty(t)
	volumes := open(t, kube.Config{}).Volumes
	held := volume("v", "node-1")
	held.Finalizers = []string{v1alpha1.Finalizer}
	if _, err := volumes.Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	const crd = crdsPath + "/datastorevolumes.datastore-csi.io"
	if err := plane.Call(t.Context(), http.MethodDelete, groupPath+"datastorevolumes/v", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := plane.Call(t.Context(), http.MethodDelete, crd, nil, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the CRD ends", func() bool {
		_, err := volumes.Create(t.Context(), volume("w", "node-1"))
		if err == nil {
			err = volumes.Delete(t.Context(), "w", "")
		}
		return fault.Is(err, fault.Unavailable)
	})
	v, err := volumes.Get(t.Context(), "v")
	if err != nil || v.DeletionTimestamp == nil || v.Spec.Deletion != nil {
		t.Fatalf("the record is %v, %v", v, err)
	}
	// Even then an agent can say what it must.
	if _, err := store.ChangeStatus(t.Context(), volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Worker.Phase = v1alpha1.Ready
		return nil
	}); err != nil {
		t.Errorf("its status can't be written: %v", err)
	}
	release(t, "datastorevolumes", "v")
	eventually(t, "the CRD is gone", func() bool {
		return refused(plane.Call(t.Context(), http.MethodGet, crd, nil, nil)) == "NotFound"
	})
	// A lost CRD is not a lost volume: nobody may take it for deleted.
	eventually(t, "the API server serves no volumes", func() bool {
		_, err := volumes.Get(t.Context(), "v")
		if fault.Is(err, fault.NotFound) {
			// The record is really gone while the API server still knows its kind.
			return false
		}
		return fault.Is(err, fault.Unavailable) && strings.Contains(err.Error(), "is its CRD installed")
	})
	install(t, filepath.Join(crds, "datastore-csi.io_datastorevolumes.yaml"))
	if _, err := volumes.Get(t.Context(), "v"); !fault.Is(err, fault.NotFound) {
		t.Errorf("with the CRD back: %v", err)
	}
}

// A driver that is newer than the CRDs must not have its fields dropped without a word.
func TestFieldsThatTheInstalledCRDLacksAreRefused(t *testing.T) {
	ready(t)
	empty(t)
	volumes := open(t, kube.Config{}).Volumes
	const path = crdsPath + "/datastorevolumes.datastore-csi.io"
	put := func(alter func(crd map[string]any)) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(crds, "datastore-csi.io_datastorevolumes.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		next, now := decoded(t, string(text)), map[string]any{}
		alter(next)
		if err := plane.Call(t.Context(), http.MethodGet, path, nil, &now); err != nil {
			t.Fatal(err)
		}
		now["spec"] = next["spec"]
		if err := plane.Call(t.Context(), http.MethodPut, path, now, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(func(crd map[string]any) {
		version := crd["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
		worker := version["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)["properties"].(map[string]any)["status"].(map[string]any)["properties"].(map[string]any)["worker"].(map[string]any)["properties"].(map[string]any)
		delete(worker, "location")
	})
	defer put(func(map[string]any) {})
	n := 0
	eventually(t, "the API server has the older CRD", func() bool {
		n++
		v := volume(fmt.Sprintf("v-%d", n), "node-1")
		v.Status.Worker.Location = "somewhere"
		_, err := volumes.Create(t.Context(), v)
		return fault.Is(err, fault.Invalid) && strings.Contains(err.Error(), "location")
	})
}

func TestADatastoreIsReadWithItsDefaults(t *testing.T) {
	ready(t)
	empty(t)
	plain, full := open(t, kube.Config{}).Datastores, open(t, kube.Config{Defaults: true}).Datastores
	d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: v1alpha1.DatastoreSpec{
		Type: v1alpha1.TypeDirectory, Directory: &v1alpha1.DirectorySpec{Path: "/srv/fast"},
	}}
	if _, err := plain.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	reads := map[string]func(context.Context) (*v1alpha1.Datastore, error){
		"get": func(ctx context.Context) (*v1alpha1.Datastore, error) { return full.Get(ctx, "fast") },
		"list": func(ctx context.Context) (*v1alpha1.Datastore, error) {
			all, err := full.List(ctx)
			if err != nil || len(all) != 1 {
				return nil, fmt.Errorf("%d datastores, %w", len(all), err)
			}
			return all[0], nil
		},
	}
	for what, read := range reads {
		if got, err := read(t.Context()); err != nil || got.Spec.Volumes.Format != v1alpha1.FormatImage || got.Spec.State != v1alpha1.StateActive {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	// The record is the administrator's: whoever reads it so and writes it back leaves the spec as it was written.
	hold := func(finalizers ...string) {
		t.Helper()
		_, err := store.Change(t.Context(), full, "fast", func(now *v1alpha1.Datastore) error {
			now.Finalizers = finalizers
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := plain.Get(t.Context(), "fast"); err != nil || got.Spec.State != "" || got.Generation != 1 || !slices.Equal(got.Finalizers, finalizers) {
			t.Errorf("what is stored: %v, %v", got, err)
		}
	}
	stale, err := full.Get(t.Context(), "fast")
	if err != nil {
		t.Fatal(err)
	}
	hold(v1alpha1.Finalizer)
	if _, err := full.Update(t.Context(), stale); !fault.Is(err, fault.Conflict) {
		t.Errorf("a datastore that changed since: %v", err)
	}
	hold()
}
