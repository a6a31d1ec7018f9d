package partition_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// jobVariable holds a job for this test binary, run again.
const jobVariable = "DATASTORE_CSI_TEST_JOB"

// job is a start that a child process makes, to die in the middle of it.
type job struct {
	Dir  string
	Spec v1alpha1.DatastoreSpec
	// DieAt is the number of the step before which it dies by SIGKILL, DieIn a word of what it is about to do.
	DieAt int
	DieIn string
}

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runJob(text); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func runJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	n := 0
	ctx := step.WithHook(context.Background(), func(_, what string) {
		if n++; n == j.DieAt || j.DieIn != "" && strings.Contains(what, j.DieIn) {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	c, err := configOf(j.Dir, j.Spec, "fast")
	if err != nil {
		return err
	}
	c.Claims = &datastore.Claims{}
	_, err = partition.Type().New(ctx, c)
	return err
}

// dying starts a driver that dies, and tells whether it was done before.
func (r *rig) dying(at int, in string) (done bool) {
	r.t.Helper()
	text, err := json.Marshal(job{r.dir, r.spec, at, in})
	must(r.t, err)
	cmd := exec.CommandContext(r.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL {
		return false
	}
	if err != nil {
		r.t.Fatalf("a driver that was to die at step %d: %v: %s", at, err, out)
	}
	return true
}

// killedIn starts a driver that dies just before it does something.
func (r *rig) killedIn(in string) {
	r.t.Helper()
	if r.dying(0, in) {
		r.t.Fatalf("it did not die before %q", in)
	}
}

// blank makes the disk one that nobody ever used, and the driver one that never ran.
func (r *rig) blank() {
	r.t.Helper()
	r.unmount()
	r.zero()
	must(r.t, os.RemoveAll(filepath.Join(r.dir, "state")))
	must(r.t, os.RemoveAll(filepath.Join(r.dir, "mounts")))
}

func TestADeathAtAnyStepOfTheFirstStartIsFollowedByAStart(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		t.Parallel()
		for _, reboot := range []bool{false, true} {
			for n := 1; ; n++ {
				r.blank()
				done := r.dying(n, "")
				if reboot {
					r.unmount()
				}
				p, err := r.open()
				if err != nil {
					t.Fatalf("after a death at step %d (reboot: %t): %v", n, reboot, err)
				}
				create(t, p, image("v-1"))
				holds(t, r.opened(), image("v-1"))
				if done {
					if n < 10 {
						t.Errorf("only %d steps", n)
					}
					break
				}
			}
		}
	})
}

func TestADeathAtAnyStepOfTakingWhatIsThere(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		t.Parallel()
		for n := 1; ; n++ {
			r.blank()
			do(t, "mkfs."+r.spec.Partition.FSType, "-q", r.device())
			done := r.dying(n, "")
			p, err := r.open()
			if err != nil {
				t.Fatalf("after a death at step %d: %v", n, err)
			}
			create(t, p, image("v-1"))
			if done {
				return
			}
		}
	})
}

// remembered is what the host remembers of the datastore.
func (r *rig) remembered() map[string]any {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "state", "fast.json"))
	must(r.t, err)
	var m map[string]any
	must(r.t, json.Unmarshal(text, &m))
	return m
}

// What mkfs left that was killed is told from a file system that is whole.
func TestWhatAKilledMkfsLeft(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			r := newRig(t, fsType)
			r.killedIn("make " + fsType)
			first := r.remembered()
			if first["making"] != true || r.signature() != "" {
				t.Fatalf("before mkfs: %v, it bears %q", first, r.signature())
			}
			// Whole, and bearing the UUID that was decided: killed just behind it.
			flag := map[string]string{"ext4": "-U", "xfs": "-m"}[fsType]
			do(t, "mkfs."+fsType, "-q", flag, map[string]string{"xfs": "uuid="}[fsType]+first["uuid"].(string), r.device())
			create(t, r.opened(), image("v-1"))
			if now := r.remembered(); now["making"] != nil || now["uuid"] != first["uuid"] {
				t.Errorf("remembered %v, decided was %v", now, first)
			}
			// Half: its first bytes are there, and not the rest.
			r.blank()
			r.killedIn("make " + fsType)
			second := r.remembered()
			do(t, "mkfs."+fsType, "-q", flag, map[string]string{"xfs": "uuid="}[fsType]+second["uuid"].(string), r.device())
			r.zero("-o", "65536", "-l", "67108864")
			_, err := r.open()
			wantKind(t, err, fault.Precondition, "being formatted", "blkdiscard -z "+r.link)
			r.zero()
			create(t, r.opened(), image("v-1"))
			// Somebody else's is never taken for ours.
			r.blank()
			r.killedIn("make " + fsType)
			do(t, "mkfs."+fsType, "-q", r.device())
			before := sum(t, r)
			_, err = r.open()
			wantKind(t, err, fault.Unavailable, "another disk")
			if sum(t, r) != before {
				t.Error("it was changed")
			}
		})
	}
}

// A datastore whose disk turns up blank lost it: it is never begun anew.
func TestAPoolThatWasKnownIsNeverFormattedAnew(t *testing.T) {
	r := newRig(t, "xfs")
	p := r.opened()
	status, err := p.Status(t.Context())
	must(t, err)
	state := filepath.Join(r.dir, "state")
	for name, keep := range map[string]func(){
		"known by its record": func() { r.uuid = status.UUID; must(t, os.RemoveAll(state)) },
		"known here":          func() { r.uuid = "" },
	} {
		t.Run(name, func(t *testing.T) {
			r.blank()
			r.opened()
			r.unmount()
			r.zero()
			keep()
			_, err := r.open()
			wantKind(t, err, fault.Unavailable, "not formatted", "another disk")
			if got := r.signature(); got != "" {
				t.Errorf("it bears %s", got)
			}
			r.uuid = ""
		})
	}
}

func TestLettingGo(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		p := r.opened()
		v := image("v-1")
		create(t, p, v)
		opened, err := p.Open(t.Context(), v, false)
		must(t, err)
		held, err := os.Open(opened.Device)
		must(t, err)
		// In use it stays, and what is in use can be let go of.
		r.spec.State = "Inactive"
		off := r.config("fast").Datastore
		p.(interface{ Update(*v1alpha1.Datastore) }).Update(off)
		wantKind(t, deactivate(t, p), fault.Busy, r.mountedAt("fast"))
		status, err := p.Status(t.Context())
		must(t, err)
		r.uuid = status.UUID
		restarted := r.opened()
		must(t, held.Close())
		must(t, restarted.Close(t.Context(), v))
		must(t, deactivate(t, restarted))
		if _, err := os.Stat(r.mountedAt("fast")); !os.IsNotExist(err) {
			t.Errorf("the mount point is still there: %v", err)
		}
		// Off, it isn't mounted by any call, and there is nothing to let go of.
		for _, q := range []datastore.Pool{p, restarted, r.opened()} {
			_, err = q.Open(t.Context(), v, false)
			wantKind(t, err, fault.Unavailable, "Inactive")
			must(t, q.Close(t.Context(), v))
			if used, err := datastore.InUse(t.Context(), q, v); used || err != nil {
				t.Errorf("in use: %t, %v", used, err)
			}
		}
		r.spec.State = "Active"
		p.(interface{ Update(*v1alpha1.Datastore) }).Update(r.config("fast").Datastore)
		holds(t, p, v)
	})
}

func TestARemovedDatastoreIsForgottenAndItsDataStays(t *testing.T) {
	r := newRig(t, "ext4")
	p := r.opened()
	create(t, p, image("v-1"))
	tools := r.config("fast").Tools
	must(t, partition.Type().Tidy(t.Context(), tools, func(name string) bool { return name == "fast" }))
	holds(t, p, image("v-1"))
	busy, err := os.Open(r.mountedAt("fast"))
	must(t, err)
	wantKind(t, partition.Type().Retire(t.Context(), tools, "fast"), fault.Busy)
	r.remembered()
	must(t, busy.Close())
	must(t, partition.Type().Tidy(t.Context(), tools, func(string) bool { return false }))
	for _, dir := range []string{"mounts", "state"} {
		if left, err := os.ReadDir(filepath.Join(r.dir, dir)); len(left) > 0 || err != nil {
			t.Errorf("%s holds %v, %v", dir, left, err)
		}
	}
	must(t, partition.Type().Retire(t.Context(), tools, "fast"))
	holds(t, r.opened(), image("v-1"))
}

func TestWhatIsOnlyLookedAtIsNotMounted(t *testing.T) {
	r := newRig(t, "xfs")
	create(t, r.opened(), image("v-1"))
	c := r.config("fast")
	c.Inspect, c.Tools.MountDir, c.Tools.StateDir = true, "", ""
	p, err := partition.Type().New(t.Context(), c)
	must(t, err)
	if found, err := p.List(t.Context()); len(found) != 1 || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
	r.unmount()
	before := sum(t, r)
	_, err = partition.Type().New(t.Context(), c)
	wantKind(t, err, fault.Unavailable, "mount -o ro "+r.link)
	if sum(t, r) != before {
		t.Error("it was changed")
	}
	at := t.TempDir()
	must(t, unix.Mount(r.device(), at, "xfs", unix.MS_RDONLY, ""))
	defer func() { must(t, unix.Unmount(at, 0)) }()
	p, err = partition.Type().New(t.Context(), c)
	must(t, err)
	if found, err := p.List(t.Context()); len(found) != 1 || err != nil {
		t.Errorf("mounted read-only: %+v, %v", found, err)
	}
}
