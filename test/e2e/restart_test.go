package e2e_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writer is the script of a pod that adds a line with the time in seconds, again and again, and ends where one can't be made durable.
const writer = "trap 'exit 0' TERM; while date +%s | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null; do usleep 50000; done; exit 1"

// writing is a pod that writes all the time.
type writing struct {
	pod   object
	mount string
}

// startWriting starts a writer on the first node.
func startWriting(t *testing.T) (*writing, object) {
	t.Helper()
	data, user := claim("log", "64Mi"), pod("writer", "log", writer).on(nodes[0])
	apply(t, data, user)
	ready(t, user)
	w := &writing{pod: user}
	w.mount = w.look(t)
	return w, data
}

// look tells which mount the pod has, which process writes to it, and how often it was started.
func (w *writing) look(t *testing.T) string {
	t.Helper()
	return shell(t, w.pod, "grep ' /data ' /proc/1/mountinfo | cut -d ' ' -f 1,3; cut -d ' ' -f 22 /proc/1/stat") +
		get(t, "pod/"+w.pod.name(), ".status.containerStatuses[0].restartCount")
}

// check fails where the pod has another mount than before, or had to wait with its writes for longer than a disk may take.
func (w *writing) check(t *testing.T, when string) {
	t.Helper()
	if now := w.look(t); now != w.mount {
		t.Errorf("%s: mount and process are %q, were %q", when, now, w.mount)
	}
	lines := strings.Fields(shell(t, w.pod, "cat /data/log"))
	if len(lines) == 0 {
		t.Fatalf("%s: nothing was written", when)
	}
	var longest, last int
	for i, line := range lines {
		second, err := strconv.Atoi(line)
		if err != nil {
			t.Fatalf("%s: line %d is %q", when, i, line)
		}
		if i > 0 {
			longest = max(longest, second-last)
		}
		last = second
	}
	t.Logf("%s: %d lines, at most %d s apart", when, len(lines), longest)
	if silent := time.Now().Unix() - int64(last); longest > 10 || silent > 10 {
		t.Errorf("%s: no line for %d s, and none in the last %d s", when, longest, silent)
	}
}

func TestAPodWritesOnWhileTheDriverIsReplacedAndKilled(t *testing.T) {
	w, data := startWriting(t)
	t.Run("restart of the node pods", func(t *testing.T) {
		do(t, "rollout", "restart", "-n", namespace, "daemonset/datastore-csi-node")
		rolledOut(t)
		w.check(t, "after it")
	})
	t.Run("restart of the controller", func(t *testing.T) {
		do(t, "rollout", "restart", "-n", namespace, "deployment/datastore-csi-controller")
		rolledOut(t)
		w.check(t, "after it")
	})
	t.Run("kill of both processes of the node", func(t *testing.T) {
		for _, which := range []string{"--newest", "--oldest"} {
			before := nodeProcesses(t, nodes[0])
			if _, err := in(t.Context(), nodes[0], "pkill", "-9", which, "--full", "^/datastore-csi node"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "other processes serve the node", func() error {
				if now := nodeProcesses(t, nodes[0]); len(now) != 2 || slices.ContainsFunc(now, func(pid string) bool { return slices.Contains(before, pid) }) {
					return fmt.Errorf("processes %q, were %q", now, before)
				}
				return nil
			})
			rolledOut(t)
			w.check(t, "after the kill of the "+which[2:])
		}
	})
	t.Run("a new claim works, and the old one goes", func(t *testing.T) {
		other, user := claim("other", "32Mi"), pod("user", "other", wait).on(nodes[0])
		apply(t, other, user)
		ready(t, user)
		remove(t, user, other, w.pod, data)
		nothingLeft(t)
	})
}

// nodeProcesses are those of the driver on a node: the one in the container, and the one on the host.
func nodeProcesses(t *testing.T, node string) []string {
	t.Helper()
	out, err := in(t.Context(), node, "sh", "-c", "pgrep --full '^/datastore-csi node' || true")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

// rolledOut waits until the driver is ready everywhere.
func rolledOut(t *testing.T) {
	t.Helper()
	for _, what := range []string{"daemonset/datastore-csi-node", "deployment/datastore-csi-controller"} {
		do(t, "rollout", "status", "-n", namespace, "--timeout="+patience.String(), what)
	}
}
