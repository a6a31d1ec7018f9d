// Package kube_test proves pkg/store/kube and the CRDs on a real API server.
package kube_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

const (
	crds      = "../../charts/datastore-csi/crds"
	crdsPath  = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	groupPath = "/apis/datastore-csi.io/v1alpha1/"

	// patience is how long a test waits for what must happen. Nothing takes nearly as long.
	patience = time.Minute
)

// plane is the API server of all tests of this package; config is its administrator's.
var (
	plane  *control.Plane
	config *rest.Config
)

func TestMain(m *testing.M) {
	os.Exit(control.Main(m, func(p *control.Plane) { plane = p }))
}

// ready gives the administrator's config of an API server that serves our records.
func ready(t *testing.T) *rest.Config {
	t.Helper()
	if config != nil {
		return config
	}
	files, err := filepath.Glob(filepath.Join(crds, "*.yaml"))
	if err != nil || len(files) != 4 {
		t.Fatalf("found %d CRDs, want 4: %v", len(files), err)
	}
	for _, file := range files {
		install(t, file)
	}
	c, err := clientcmd.BuildConfigFromFlags("", plane.Admin)
	if err != nil {
		t.Fatal(err)
	}
	config = c
	return c
}

// install makes the API server serve a CRD.
func install(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	crd := map[string]any{}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := plane.Call(t.Context(), http.MethodPost, crdsPath, crd, nil); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var made struct {
		Spec struct{ Names struct{ Plural string } }
	}
	if err := yaml.Unmarshal(text, &made); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server serves "+made.Spec.Names.Plural, func() bool {
		return plane.Call(t.Context(), http.MethodGet, groupPath+made.Spec.Names.Plural, nil, nil) == nil
	})
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s until %s", patience, what)
		}
	}
}

// open opens the store.
func open(t *testing.T, c kube.Config) *store.Store {
	t.Helper()
	if c.API == nil {
		c.API = ready(t)
	}
	db, err := kube.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db.Store()
}

// refused tells the reason that the API server refused something for, or "".
func refused(err error) string {
	var status *control.StatusError
	if errors.As(err, &status) {
		return status.Reason
	}
	return ""
}
