package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// victims are what of the driver is killed: its processes on a node, by their command line, and the pod that is then
// replaced at once, since a container that is started again after each kill has to wait longer each time.
var victims = []struct{ component, process string }{
	{"node", "^/datastore-csi node"}, {"controller", "^/datastore-csi controller"},
}

// kill ends all of the driver, on every node, as a crash does.
func kill(ctx context.Context) error {
	for _, v := range victims {
		for _, node := range nodes {
			if _, err := in(ctx, node, "sh", "-c", "pkill -9 --full '"+v.process+"' || true"); err != nil {
				return err
			}
		}
		if _, err := kubectl(ctx, "", "delete", "pods", "-n", namespace, "-l", "app.kubernetes.io/component="+v.component, "--wait=false", "--grace-period=0", "--force"); err != nil {
			return err
		}
	}
	return nil
}

// Each life has all of the driver killed a while after each of its steps has begun, and the others' too.
func TestTheDriverIsKilledInEveryPhase(t *testing.T) {
	t.Run("of lives", func(t *testing.T) {
		for _, delay := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second} {
			t.Run("kills come after "+delay.String(), func(t *testing.T) {
				t.Parallel()
				lifeWithKills(t, fmt.Sprintf("killed-%d", delay.Milliseconds()), delay)
			})
		}
	})
	rolledOut(t)
	nothingLeft(t)
}

func lifeWithKills(t *testing.T, name string, delay time.Duration) {
	during := func(what string) {
		t.Helper()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		<-timer.C
		if err := kill(t.Context()); err != nil {
			t.Fatalf("kill during %s: %v", what, err)
		}
	}
	data, user := claim(name, "300Mi").with("storageClassName", "xfs"), pod(name, name, wait)
	apply(t, data, user)
	during("the making of the volume")
	ready(t, user)
	sum := shell(t, user, write)

	grow(t, data, "600Mi")
	during("growth")
	grown(t, data, "600Mi")

	taken := snapshot(name, name)
	apply(t, taken)
	during("the snapshot")
	do(t, "wait", "--for=jsonpath={.status.readyToUse}=true", "--timeout="+patience.String(), "volumesnapshot/"+name)

	copied := restored(name+"-copy", "600Mi", name).with("storageClassName", "xfs")
	reader := pod(name+"-copy", name+"-copy", wait)
	apply(t, copied, reader)
	during("the restore")
	ready(t, reader)
	for _, p := range []object{user, reader} {
		if got := shell(t, p, "sha256sum </data/file"); got != sum {
			t.Errorf("%s: the sum is %s, want %s", p.name(), got, sum)
		}
	}
	for _, o := range []object{user, reader, taken, copied, data} {
		do(t, "delete", "--wait=false", o.kind()+"/"+o.name())
	}
	during("the end")
	remove(t, user, reader, taken, copied, data)
}
