package e2e_test

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outage is how long the API server is away.
const outage = 2 * time.Minute

// A pod that was told to end before the outage ends after it; one that writes doesn't notice.
func TestTheAPIServerIsAway(t *testing.T) {
	w, data := startWriting(t)
	leaving, user := claim("leaving", "32Mi"), pod("leaving", "leaving", wait).on(nodes[0])
	apply(t, leaving, user)
	ready(t, user)
	server := apiServer(t)
	do(t, "delete", "--wait=false", "pod/leaving")
	if err := unix.Kill(server, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(server, unix.SIGCONT) }) // also where the test ends early
	back := time.NewTimer(outage)
	defer back.Stop()
	<-back.C
	if err := unix.Kill(server, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server answers", func() error {
		_, err := kubectl(t.Context(), "", "get", "--raw", "/readyz")
		return err
	})
	do(t, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "nodes", "--all")
	w.check(t, "after the outage")
	rolledOut(t)
	later, another := claim("later", "32Mi"), pod("later", "later", wait).on(nodes[0])
	apply(t, later, another)
	ready(t, another)
	remove(t, user, leaving, another, later, w.pod, data)
	nothingLeft(t)
}

// apiServer is the process of the cluster's API server.
func apiServer(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("pgrep", "--full", "^[^ ]*/kube-apiserver .*"+env.Dir+"/").Output()
	pid, err1 := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || err1 != nil {
		t.Fatalf("find the API server: %v, %q", err, out)
	}
	return pid
}
