package installation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// paths of the kinds that are installed, by group; of those that lie in a namespace, with a place for it.
var paths = map[string]string{
	"Namespace": "/api/v1/namespaces", "ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts",
	"NetworkPolicy":            "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
	"PodDisruptionBudget":      "/apis/policy/v1/namespaces/%s/poddisruptionbudgets",
	"StorageClass":             "/apis/storage.k8s.io/v1/storageclasses",
	"CSIDriver":                "/apis/storage.k8s.io/v1/csidrivers",
	"VolumeSnapshotClass":      "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses",
	"ClusterRole":              "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"ClusterRoleBinding":       "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"Role":                     "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles",
	"RoleBinding":              "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
	"DaemonSet":                "/apis/apps/v1/namespaces/%s/daemonsets",
	"Deployment":               "/apis/apps/v1/namespaces/%s/deployments",
	"CustomResourceDefinition": definitions,

	"ValidatingAdmissionPolicy":        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// object is what of an object says where it belongs.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	text     []byte // in JSON
}

// read gives the objects of a file.
func read(path string) ([]object, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []object
	for _, document := range bytes.Split(content, []byte("\n---\n")) {
		text, err := yaml.YAMLToJSONStrict(bytes.TrimPrefix(document, []byte("---\n")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		o := object{text: text}
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if o.Kind != "" { // not but a comment
			out = append(out, o)
		}
	}
	return out, nil
}

func (o object) path() (string, error) {
	path, ok := paths[o.Kind]
	if !ok {
		return "", fmt.Errorf("nobody knows where objects of kind %s are", o.Kind)
	}
	if strings.Contains(path, "%s") {
		path = fmt.Sprintf(path, o.Metadata.Namespace)
	}
	return path + "/" + o.Metadata.Name, nil
}

// apply does what `kubectl apply --server-side` does, for all objects of a file; with query dryRun=All it stores nothing. A
// field that the API server doesn't know is an error.
func apply(ctx context.Context, c *caller, file, query string) error {
	objects, err := read(filepath.Join(deploy, file))
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range objects {
		path, err := o.path()
		if err == nil {
			err = c.send(ctx, http.MethodPatch, path+"?fieldManager=test&fieldValidation=Strict&"+query, "application/apply-patch+yaml", o.text, nil)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s %s: %w", file, o.Kind, o.Metadata.Name, err))
		}
	}
	return errors.Join(errs...)
}

// snapshotCRDs are those that a cluster has from the snapshot controller.
func snapshotCRDs(ctx context.Context) ([]string, error) {
	const module = "github.com/kubernetes-csi/external-snapshotter/client/v8"
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = "../../cluster/programs/sidecars"
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("download %s: %w: %s", module, err, out)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(out, &at); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(at.Dir, "config/crd/snapshot.storage.k8s.io_*.yaml"))
}

func TestTheAPIServerTakesEveryObject(t *testing.T) {
	admin := asAdministrator(t)
	files, err := snapshotCRDs(t.Context())
	if err != nil || len(files) != 3 {
		t.Fatalf("CRDs of snapshots: %v, %v", files, err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.YAMLToJSON(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := admin.send(t.Context(), http.MethodPost, definitions, "application/json", text, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := untilServed(t.Context(), admin, paths["VolumeSnapshotClass"]); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"crds.yaml", "datastore-csi.yaml", "datastore-csi-with-snapshots.yaml"} {
		if err := apply(t.Context(), admin, file, "force=true&dryRun=All"); err != nil {
			t.Error(err)
		}
	}
}

// An object that isn't installed at its place isn't found by those who look for it there.
func TestBothVariantsInstallTheSame(t *testing.T) {
	names := func(file string) []string {
		objects, err := read(filepath.Join(deploy, file))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, o := range objects {
			if o.Kind != "VolumeSnapshotClass" {
				out = append(out, o.Kind+"/"+o.Metadata.Name)
			}
		}
		return out
	}
	if plain, snapshots := names("datastore-csi.yaml"), names("datastore-csi-with-snapshots.yaml"); !slices.Equal(plain, snapshots) || len(plain) < 15 {
		t.Errorf("got\n%v\nand\n%v", plain, snapshots)
	}
}
