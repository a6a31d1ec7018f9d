package power

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// runLimit is the longest that a boot may take.
const runLimit = 4 * time.Minute

func TestMain(m *testing.M) {
	if part := os.Getenv(partVariable); part != "" {
		os.Exit(runGuest(part))
	}
	flag.Parse()
	os.Exit(onHost(m))
}

// onHost builds the driver, for all tests, in a folder that the machines share.
func onHost(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dcsi-power-")
	if err == nil {
		binary := filepath.Join(dir, "datastore-csi")
		err = errors.Join(harness.Build(binary), os.Setenv(binaryVariable, binary))
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// machine makes a machine with a disk for the pool and one for the host.
func machine(t *testing.T) *testbed.Machine {
	t.Helper()
	return testbed.New(t, testbed.Config{
		Disks:  []testbed.Disk{{Size: 3 << 30}, {Size: 256 << 20}},
		Shares: []string{filepath.Dir(os.Getenv(binaryVariable))}, Modules: []string{"loop"},
	})
}

// boot starts a part in the machine.
func boot(t *testing.T, m *testbed.Machine, pool, part string, env ...string) *testbed.Run {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run, err := m.Boot(t.Context(), testbed.Command{
		Path: self, Limit: runLimit,
		Env: append(env, partVariable+"="+part, poolVariable+"="+pool, binaryVariable+"="+os.Getenv(binaryVariable)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// ends waits until a part has ended with success.
func ends(t *testing.T, run *testbed.Run, part string) {
	t.Helper()
	if code, err := run.Wait(t.Context()); code != 0 || err != nil {
		t.Fatalf("%s: exit code %d, %v\n%s%s\nkernel:\n%s", part, code, err, run.Stdout, run.Stderr, testbed.SinceUp(run.Kernel.String()))
	}
}

// safe counts for each volume what the guest called safe, as variables for the next boot. The writes of a volume follow
// each other, so that a number stands for all below it.
func safe(t *testing.T, out string) []string {
	t.Helper()
	count := map[string]int{}
	for line := range strings.Lines(out) {
		var volume string
		var n int
		if _, err := fmt.Sscanf(line, "SAFE %s %d", &volume, &n); err == nil {
			count[volume] = n + 1
		}
	}
	var env []string
	for name := range claims() {
		if count[name] == 0 {
			t.Errorf("nothing of %s was written before the end", name)
		}
		env = append(env, fmt.Sprintf("%s=%d", safeVariable(name), count[name]))
	}
	return env
}

func TestWhatWasSyncedOutlivesAPowerCut(t *testing.T) {
	for i, pool := range []string{"ext4", "xfs", "btrfs"} {
		t.Run("pool on "+pool, func(t *testing.T) {
			t.Parallel()
			m := machine(t)
			run := boot(t, m, pool, "write")
			ctx, cancel := context.WithTimeout(t.Context(), runLimit)
			defer cancel()
			// Amid the writes; at another place on each pool: after a write, or where a volume is being made and used.
			if _, err := run.WaitLine(ctx, fmt.Sprintf("SAFE vol-xfs %d", 11+i)); err != nil {
				t.Fatal(err)
			}
			run.PowerCut()
			ends(t, boot(t, m, pool, "verify", safe(t, run.Stdout.String())...), "verify")
		})
	}
}

func TestVolumesAreUsedAgainAfterARestart(t *testing.T) {
	t.Parallel()
	m := machine(t)
	run := boot(t, m, "ext4", "leave")
	ends(t, run, "leave")
	ends(t, boot(t, m, "ext4", "verify", safe(t, run.Stdout.String())...), "verify")
}
