package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen, on a machine that is busy with other things too.
const patience = 4 * time.Minute

var snapshotImage = regexp.MustCompile(`snapshot-controller:v\S+`)

// execute runs a program and gives what it prints.
func execute(ctx context.Context, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %q: %w: %s%s", program, args, err, out, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return execute(ctx, stdin, env.kubectl, append([]string{"--kubeconfig=" + env.Kubeconfig()}, args...)...)
}

// in runs a command in a node.
func in(ctx context.Context, node string, command ...string) (string, error) {
	return execute(ctx, "", env.tool, append([]string{"--dir", env.Dir, "enter", node}, command...)...)
}

// do runs kubectl, which must succeed.
func do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply makes objects, each of which is deleted when the test ends.
func apply(t *testing.T, objects ...object) {
	t.Helper()
	for _, o := range objects {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kubectl(t.Context(), string(text), "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
			defer cancel()
			if _, err := kubectl(ctx, "", "delete", "--ignore-not-found", "--wait=false", o.kind()+"/"+o.name()); err != nil {
				t.Error(err)
			}
		})
	}
}

// remove deletes objects and waits until they are gone.
func remove(t *testing.T, objects ...object) {
	t.Helper()
	for _, o := range objects {
		do(t, "delete", "--ignore-not-found", "--timeout="+patience.String(), o.kind()+"/"+o.name())
	}
}

// ready waits for pods to be Ready.
func ready(t *testing.T, pods ...object) {
	t.Helper()
	for _, p := range pods {
		do(t, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/"+p.name())
	}
}

// shell runs a script in a pod.
func shell(t *testing.T, pod object, script string) string {
	t.Helper()
	return do(t, "exec", pod.name(), "--", "sh", "-ec", script)
}

// get gives a field of an object, as a JSON path names it.
func get(t *testing.T, what, field string) string {
	t.Helper()
	return do(t, "get", what, "-o", "jsonpath={"+field+"}")
}

// eventually waits until something succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	within(t, patience, what, try)
}

func within(t *testing.T, limit time.Duration, what string, try func() error) {
	t.Helper()
	deadline := time.After(limit)
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %s until %s: %v", limit, what, err)
		}
	}
}

// nothingLeft waits until no volume is left: no object, no record, and on no node a file, a device or a mount.
func nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, "no volume is left in the cluster", func() error {
		out, err := kubectl(t.Context(), "", "get", "pv,datastorevolumes,datastoresnapshots,volumeattachments,volumesnapshotcontents", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("there are %q", strings.Fields(out))
		}
		return err
	})
	for _, node := range nodes {
		eventually(t, "no volume is left on "+node, func() error {
			out, err := in(t.Context(), node, "sh", "-ec", leftOnNode)
			if err == nil && out != "" {
				err = fmt.Errorf("there are %q", strings.Split(out, "\n"))
			}
			return err
		})
	}
}

// leftOnNode lists the volumes of a node, deleted ones too, its loop devices but for the pool's own, and the driver's mounts.
const leftOnNode = "cd " + pool + "; find volumes snapshots archived .datastore-csi/tmp .datastore-csi/trash -mindepth 1 2>/dev/null || true; " +
	"losetup -n -O BACK-FILE | grep " + pool + "/ || true; " +
	"grep -E '/plugins/kubernetes.io/csi/datastore-csi.io/|kubernetes.io~csi' /proc/self/mountinfo || true; " +
	"ls /var/lib/datastore-csi/stage"
