package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/cluster"
	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

// tool builds the program that clusters are made of.
func tool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/cluster").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

// started is a cluster that runs until the test ends.
type started struct {
	cluster.Config
	tool, kubectl string
}

func start(t *testing.T, c cluster.Config) *started {
	t.Helper()
	if out, err := exec.Command("../../hack/deps.sh", "cluster").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	programs, err := control.Programs(t.Context(), "kubernetes", "kubectl")
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Config: c, tool: tool(t), kubectl: filepath.Join(programs, "kubectl")}
	t.Cleanup(func() {
		if err := cluster.Down(c.Dir, false); err != nil {
			t.Error(err)
		}
	})
	if err := cluster.Up(t.Context(), c, s.tool); err != nil {
		t.Fatal(err)
	}
	return s
}

// do runs kubectl and gives what it prints.
func (s *started) do(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	return run(t, stdin, s.kubectl, append([]string{"--kubeconfig=" + s.Kubeconfig()}, args...)...)
}

// in runs a command in a node.
func (s *started) in(t *testing.T, node string, command ...string) string {
	t.Helper()
	return run(t, "", s.tool, append([]string{"--dir", s.Dir, "enter", node}, command...)...)
}

func run(t *testing.T, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s%s", program, args, err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}

// pod gives a pod that waits, on that node.
func pod(t *testing.T, name, node string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"terminationGracePeriodSeconds": 0, "nodeName": node,
			"containers": []any{map[string]any{
				"name": "c", "image": "busybox:stable", "imagePullPolicy": "IfNotPresent",
				"command": []string{"sh", "-c", "hostname; sleep 100000"},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPodsRunOnEachNodeOfACluster(t *testing.T) {
	s := start(t, cluster.Config{Dir: filepath.Join(t.TempDir(), "c"), Name: "pods", Nodes: 2, Sidecars: true})
	for _, node := range []string{"node1", "node2"} {
		s.do(t, pod(t, "on-"+node, node), "apply", "-f", "-")
	}
	s.do(t, "", "wait", "--for=condition=Ready", "--timeout=120s", "pod/on-node1", "pod/on-node2")
	if got := s.do(t, "", "logs", "on-node1"); got != "on-node1" {
		t.Errorf("the log says %q, want the pod's host name", got)
	}
	address := s.do(t, "", "get", "pod", "on-node1", "-o", "jsonpath={.status.podIP}")
	for what, args := range map[string][]string{
		"a pod on the other node":     {"ping", "-c", "1", "-W", "10", address},
		"the API server's service":    {"sh", "-c", "nc -w 10 10.96.0.1 443 </dev/null"},
		"a place outside of the test": {"sh", "-c", "! ping -c 1 -W 1 192.0.2.1"},
	} {
		t.Run("a pod's way to "+what, func(t *testing.T) {
			s.do(t, "", append([]string{"exec", "on-node2", "--"}, args...)...)
		})
	}
	t.Run("the sidecars' images have their versions as tags", func(t *testing.T) {
		images := s.in(t, "node2", "ctr", "--namespace", "k8s.io", "images", "list", "--quiet")
		for _, want := range []string{"csi-attacher:v4.", "csi-provisioner:v6.", "csi-resizer:v2.", "csi-snapshotter:v8.", "snapshot-controller:v8."} {
			if !strings.Contains(images, "registry.k8s.io/sig-storage/"+want) || !strings.Contains(images, "registry.k8s.io/kubectl:v1.") {
				t.Errorf("no image %s... among\n%s", want, images)
			}
		}
	})
	t.Run("nodes are machines of their own", func(t *testing.T) {
		one, two := s.in(t, "node1", "cat", "/etc/machine-id"), s.in(t, "node2", "cat", "/etc/machine-id")
		if one == two || len(one) != 32 {
			t.Errorf("machine IDs %q and %q", one, two)
		}
		if name := s.in(t, "node2", "hostname"); name != "node2" {
			t.Errorf("host name %q, want node2", name)
		}
		if name := s.in(t, "node1", "cat", "/proc/1/comm"); name != "cluster" && name != "exe" {
			t.Errorf("process 1 is %q, want the node's own", name)
		}
	})
	t.Run("a kubelet that is killed starts again", func(t *testing.T) {
		before := s.in(t, "node1", "pgrep", "-x", "kubelet")
		// The node starts again only what has run for a while.
		eventually(t, "the kubelet has run for 10 s", func() bool {
			return len(s.in(t, "node1", "ps", "-o", "etimes=", "-p", before)) > 1
		})
		s.in(t, "node1", "kill", "-9", before)
		eventually(t, "another kubelet runs", func() bool {
			out, err := exec.Command(s.tool, "--dir", s.Dir, "enter", "node1", "pgrep", "-x", "kubelet").Output()
			return err == nil && strings.TrimSpace(string(out)) != before
		})
		s.do(t, pod(t, "later", "node1"), "apply", "-f", "-")
		s.do(t, "", "wait", "--for=condition=Ready", "--timeout=120s", "pod/later")
	})
	if err := cluster.Up(t.Context(), s.Config, s.tool); !errors.Is(err, cluster.ErrRunning) {
		t.Errorf("a second cluster in the folder: got %v, want %v", err, cluster.ErrRunning)
	}
	if err := cluster.Down(s.Dir, false); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, s.Config)
}

func TestPodsRunOnANodeWithAKernelOfItsOwn(t *testing.T) {
	s := start(t, cluster.Config{Dir: filepath.Join(t.TempDir(), "c"), Name: "machine", Nodes: 1, Machines: 1})
	for _, node := range []string{"node1", "node2"} {
		s.do(t, pod(t, "on-"+node, node), "apply", "-f", "-")
	}
	s.do(t, "", "wait", "--for=condition=Ready", "--timeout=240s", "pod/on-node1", "pod/on-node2")
	if here, there := s.in(t, "node1", "uname", "-r"), s.do(t, "", "exec", "on-node2", "--", "uname", "-r"); here == there {
		t.Errorf("both nodes run the kernel %s", here)
	}
	for from, to := range map[string]string{"on-node1": "on-node2", "on-node2": "on-node1"} {
		address := s.do(t, "", "get", "pod", to, "-o", "jsonpath={.status.podIP}")
		s.do(t, "", "exec", from, "--", "ping", "-c", "1", "-W", "10", address)
	}
	if err := cluster.Enter(s.Dir, "node2", []string{"true"}); err == nil || !strings.Contains(err.Error(), "kubectl debug") {
		t.Errorf("enter: got %v, want what to do instead", err)
	}
	if err := cluster.Down(s.Dir, false); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, s.Config)
}

func TestAClusterThatCannotStartSaysWhyAndLeavesOnlyLogs(t *testing.T) {
	c := cluster.Config{
		Dir: filepath.Join(t.TempDir(), "c"), Name: "broken", Nodes: 1,
		Images: []string{"/etc/passwd"}, // which is none
	}
	t.Cleanup(func() {
		if err := cluster.Down(c.Dir, false); err != nil {
			t.Error(err)
		}
	})
	err := cluster.Up(t.Context(), c, tool(t))
	if err == nil || !strings.Contains(err.Error(), "node1.log says why") {
		t.Fatalf("got %v, want where to look", err)
	}
	log, err := os.ReadFile(filepath.Join(c.Dir, "control", "log", "node1.log"))
	if err != nil || !strings.Contains(string(log), "import the image /etc/passwd") {
		t.Errorf("node1.log says %q (%v), want the image that it can't import", log, err)
	}
	if err := cluster.Down(c.Dir, false); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c)
}

func TestAStartThatIsInterruptedLeavesNothingBehindDown(t *testing.T) {
	c := cluster.Config{Dir: filepath.Join(t.TempDir(), "c"), Name: "interrupted", Nodes: 1}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	program := tool(t)
	go func() { ended <- cluster.Up(ctx, c, program) }()
	eventually(t, "the API server has begun", func() bool {
		_, err := os.Stat(filepath.Join(c.Dir, "control", "log", "kube-apiserver.log"))
		return err == nil
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	if err := cluster.Down(c.Dir, false); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c)
}

// nothingLeft fails where a cluster left a process, a mount, a cgroup or its folder.
func nothingLeft(t *testing.T, c cluster.Config) {
	t.Helper()
	if out, err := exec.Command("pgrep", "--full", "--list-full", c.Dir).Output(); err == nil {
		t.Errorf("processes are left: %s", out)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), c.Dir) {
		t.Errorf("mounts are left in %s (%v)", c.Dir, err)
	}
	if left, err := filepath.Glob("/sys/fs/cgroup/*/datastore-csi-" + c.Name); err != nil || len(left) != 0 {
		t.Errorf("cgroups are left: %q (%v)", left, err)
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder %s is left (%v)", c.Dir, err)
	}
}
