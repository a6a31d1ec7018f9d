package recover_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/cmd/recover"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// killedAt tells a copy of the test binary to recover, and at which change to die.
const killedAt = "DATASTORE_CSI_TEST_KILLED_AT"

// die recovers as the arguments say, and dies at the change of that number.
func die(at string, args []string) int {
	last, err := strconv.Atoi(at)
	if err != nil || len(args) != 5 {
		return 2
	}
	var changes atomic.Int64
	o := recover.Options{Datastores: args[0], StateDir: args[1], ClusterID: args[2], Host: args[3], MountDir: args[4], Apply: true, Out: io.Discard}
	o.Hook = func(string, string) {
		if changes.Add(1) == int64(last) {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	if err := recover.Run(background(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestARecoveryThatIsKilledAnywhereIsFinishedByTheNext(t *testing.T) {
	onEachRow(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		source := r.Volume(t, harness.Claim{Bytes: 2 * mib, Block: true, Parameters: in()})
		must(t, source.Create(ctx))
		recorded, deletions := 2, []func(context.Context) error{source.Delete}
		copied := harness.Claim{Bytes: 2 * mib, Block: true, Parameters: in()}
		if r.Can().Snapshots {
			snapshot := source.Snapshot()
			must(t, snapshot.Ready(ctx))
			copied.From = snapshot.Source()
			recorded, deletions = recorded+1, append(deletions, snapshot.Delete)
		}
		other := r.Volume(t, copied)
		must(t, harness.Retry(ctx, other.Create))
		listing := r.listing(t)
		must(t, r.Stop())
		changes := 0
		for finished := false; !finished; {
			changes++
			must(t, os.RemoveAll(r.StateDir))
			finished = r.recoverAndDie(t, changes)
			r.recover(t, "--apply")
			if out := r.recover(t); !strings.Contains(out, fmt.Sprintf("0 can be recovered; left as they are: %d recorded.", recorded)) {
				t.Fatalf("after a death at change %d:\n%s", changes, out)
			}
			if drafts, err := filepath.Glob(filepath.Join(r.StateDir, "*.new-*")); err != nil || len(drafts) > 0 {
				t.Errorf("after a death at change %d there is %v, %v", changes, drafts, err)
			}
		}
		if changes < 6 {
			t.Errorf("it was killed at %d changes only", changes)
		}
		must(t, r.Start(ctx))
		must(t, r.serving(t))
		if now := r.listing(t); now != listing {
			t.Errorf("before:\n%s\nnow:\n%s", listing, now)
		}
		must(t, inOrder(ctx, append(deletions, other.Delete)...))
		r.keptOnly(t)
	})
}

// recoverAndDie recovers in a process that dies at a change, and tells whether it came to its end before.
func (r *rig) recoverAndDie(t testing.TB, change int) (finished bool) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, r.File, r.StateDir, r.ClusterID, r.Host, r.MountDir)
	cmd.Env = append(os.Environ(), killedAt+"="+strconv.Itoa(change))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return true
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("recover ended with %v: %s", err, out)
	}
	return false
}
