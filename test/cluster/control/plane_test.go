package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

type review struct {
	Status struct {
		UserInfo struct {
			Username string
			Groups   []string
			Extra    map[string][]string
		}
	}
}

// kubectl runs as whoever the kubeconfig belongs to, and gives what it prints and its exit.
func kubectl(t *testing.T, config string, args ...string) (string, error) {
	t.Helper()
	programs, err := control.Programs(t.Context(), "kubernetes", "kubectl")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), programs+"/kubectl", append([]string{"--kubeconfig=" + config}, args...)...).CombinedOutput()
	return string(out), err
}

func whoami(t *testing.T, config string) review {
	t.Helper()
	out, err := kubectl(t, config, "auth", "whoami", "-o", "json")
	if err != nil {
		t.Fatalf("whoami: %v: %s", err, out)
	}
	var r review
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("whoami said %q: %v", out, err)
	}
	return r
}

func TestTheAdministratorMayDoEverything(t *testing.T) {
	out, err := kubectl(t, plane.Admin, "auth", "can-i", "*", "*", "--all-namespaces")
	if err != nil || strings.TrimSpace(out) != "yes" {
		t.Errorf("got %q, %v, want yes", out, err)
	}
}

func TestAUserIsWhoTheCertificateSaysAndMayDoNothing(t *testing.T) {
	config, err := plane.User("system:node:somewhere", "storage-hosts")
	if err != nil {
		t.Fatal(err)
	}
	user := whoami(t, config).Status.UserInfo
	if user.Username != "system:node:somewhere" || user.Groups[0] != "storage-hosts" {
		t.Errorf("got %+v, want the user system:node:somewhere of the group storage-hosts", user)
	}
	if out, err := kubectl(t, config, "get", "secrets"); err == nil || !strings.Contains(out, "Forbidden") {
		t.Errorf("get secrets: got %q, %v, want Forbidden", out, err)
	}
}

func TestAServiceAccountsTokenIsBoundToItsNode(t *testing.T) {
	node := map[string]any{"metadata": map[string]any{"name": "node-of-token"}}
	if err := plane.Call(t.Context(), http.MethodPost, "/api/v1/nodes", node, nil); err != nil {
		t.Fatal(err)
	}
	token, err := plane.ServiceAccount(t.Context(), control.Token{Namespace: "of-token", ServiceAccount: "agent", Node: "node-of-token"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := plane.TokenConfig("agent", token)
	if err != nil {
		t.Fatal(err)
	}
	user := whoami(t, config).Status.UserInfo
	if user.Username != "system:serviceaccount:of-token:agent" {
		t.Errorf("user %q, want system:serviceaccount:of-token:agent", user.Username)
	}
	if got := user.Extra["authentication.kubernetes.io/node-name"]; len(got) != 1 || got[0] != "node-of-token" {
		t.Errorf("node of the token %q, want node-of-token", got)
	}
	again, err := plane.ServiceAccount(t.Context(), control.Token{Namespace: "of-token", ServiceAccount: "agent", Audiences: []string{"elsewhere"}})
	if err != nil {
		t.Fatalf("a second token of the same account: %v", err)
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(again, ".")[1])
	if err != nil || !bytes.Contains(claims, []byte(`"aud":["elsewhere"]`)) {
		t.Errorf("claims %s, %v, want the audience elsewhere", claims, err)
	}
}

func TestWhatIsRefusedSaysWhy(t *testing.T) {
	err := plane.Call(t.Context(), http.MethodGet, "/api/v1/namespaces/default/pods/nobody", nil, nil)
	var refused *control.StatusError
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound || refused.Reason != "NotFound" ||
		!strings.Contains(refused.Message, `"nobody" not found`) {
		t.Errorf("got %v, want 404 NotFound that names the pod", err)
	}
}

func TestWhatIsStoredOutlivesTheAPIServer(t *testing.T) {
	p, err := control.Start(t.Context(), control.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	const objects, name = "/api/v1/namespaces/default/configmaps", "kept"
	object := map[string]any{"metadata": map[string]any{"name": name}}
	if err := p.Call(t.Context(), http.MethodPost, objects, object, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.StopServer(); err != nil {
		t.Fatal(err)
	}
	if err := p.Call(t.Context(), http.MethodGet, objects+"/"+name, nil, nil); err == nil {
		t.Error("the API server answers after it was stopped")
	}
	if err := p.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Call(t.Context(), http.MethodGet, objects+"/"+name, nil, nil); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if out, err := kubectl(t, p.Admin, "get", "configmap", name); err != nil {
		t.Errorf("a kubeconfig from before the restart: %v: %s", err, out)
	}
	if err := p.Failed(); err != nil {
		t.Errorf("a stop that was asked for is no failure: %v", err)
	}
}

func TestAProgramThatRefusesItsFlagsSaysSo(t *testing.T) {
	p, err := control.Start(t.Context(), control.Config{
		Dir: t.TempDir(), Flags: map[string][]string{"kube-apiserver": {"--no-such-flag"}},
	})
	if err == nil {
		_ = p.Stop() // the test has failed
		t.Fatal("started with a flag that doesn't exist")
	}
	if !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v, want the API server's own words", err)
	}
}

func TestControllersMakeADeploymentsPods(t *testing.T) {
	p, err := control.Start(t.Context(), control.Config{Dir: t.TempDir(), Controllers: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	if out, err := kubectl(t, p.Admin, "create", "deployment", "web", "--image=images.test/web:1", "--replicas=2"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := kubectl(t, p.Admin, "wait", "deployment/web", "--timeout=120s", "--for=jsonpath={.status.replicas}=2"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Nothing runs them: the scheduler's word is that there is no node.
	out, err := kubectl(t, p.Admin, "wait", "pod", "--selector=app=web", "--timeout=120s",
		`--for=jsonpath={.status.conditions[?(@.type=="PodScheduled")].reason}=Unschedulable`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Count(out, "condition met"); got != 2 {
		t.Errorf("%d pods that the scheduler has judged, want 2: %s", got, out)
	}
}

func TestAStartThatIsGivenUpLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := control.Start(ctx, control.Config{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	if left := processesIn(t, dir); len(left) != 0 {
		t.Errorf("processes are left: %q", left)
	}
}

func TestAPlaneDiesWithTheProcessThatStartedIt(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	starter := exec.CommandContext(t.Context(), self)
	starter.Env, starter.Stderr = append(os.Environ(), folderVariable+"="+dir), os.Stderr
	out, err := starter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if running := processesIn(t, dir); len(running) != 2 {
		t.Errorf("runs %q, want etcd and kube-apiserver", running)
	}
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = starter.Wait() // it was killed
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(time.Minute)
	for len(processesIn(t, dir)) != 0 {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("a minute later there are still %q", processesIn(t, dir))
		}
	}
}

// processesIn names the programs whose working folder is dir. Zombies have none.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range links {
		if folder, err := os.Readlink(link); err != nil || folder != dir {
			continue // another's, or it has ended
		}
		name, err := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if err == nil {
			names = append(names, strings.TrimSpace(string(name)))
		}
	}
	return names
}
