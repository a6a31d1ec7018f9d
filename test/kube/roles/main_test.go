// Package roles_test runs the roles of a cluster as plain processes, against a real API server and in the kubelet's and the
// sidecars' place.
package roles_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	namespace = "datastore-csi"
	crds      = "../../../charts/datastore-csi/crds/*.yaml"
	records   = "/apis/datastore-csi.io/v1alpha1/"

	// patience is how long a test waits for what must happen. Nothing takes nearly as long.
	patience = 3 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// plane starts an API server that serves the records, with the driver's namespace.
func plane(t *testing.T) *control.Plane {
	t.Helper()
	p, err := control.Start(t.Context(), control.Config{Dir: harness.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	files, err := filepath.Glob(crds)
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		crd := map[string]any{}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		call(t, p, http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd, nil)
	}
	for _, resource := range []string{"datastores", "datastorehosts", "datastorevolumes", "datastoresnapshots"} {
		eventually(t, "the API server serves "+resource, func() error {
			return p.Call(t.Context(), http.MethodGet, records+resource, nil, nil)
		})
	}
	call(t, p, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": namespace}}, nil)
	return p
}

func call(t *testing.T, p *control.Plane, method, path string, body, answer any) {
	t.Helper()
	if err := p.Call(t.Context(), method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
	}
}

// role is a role of the driver that runs as a process.
type role struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// start runs a role. It is killed when the test ends, and its log shown where that failed.
func start(t *testing.T, args ...string) *role {
	t.Helper()
	r := &role{done: make(chan struct{}), log: filepath.Join(harness.Dir(t), args[0]+".log")}
	log, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command(harness.Binary(t), args...)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // it is killed
		close(r.done)
	}()
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			text, _ := os.ReadFile(r.log)
			t.Logf("%v said:\n%s", args, text)
		}
	})
	return r
}

// kill ends the process as a crash does.
func (r *role) kill() {
	_ = r.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-r.done
}

// ready waits for a role's probe, which must answer "not ready" with why until then.
func ready(t *testing.T, address string) {
	t.Helper()
	eventually(t, "the role at "+address+" is ready", func() error { return probe(t.Context(), address, "readyz") })
}

func probe(ctx context.Context, address, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/"+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("/%s: %s", path, answer.Status)
	}
	return nil
}

// address is one of the loopback interface that was free a moment ago.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
