package logwrites

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const (
	// machineName is that of all machines: what they recorded is replayed on one that has their machine-id.
	machineName = "logwrites"

	diskBytes, logBytes = 1 << 30, 8 << 30

	// recordLimit is the longest that a recording may take.
	recordLimit = 5 * time.Minute
	// lookLimit is the longest that one look may take.
	lookLimit = 5 * time.Minute

	// How many prefixes are looked at each day, on each file system.
	someFlushed, someBetween = 18, 6
	// mostBetween bounds those of the whole.
	mostBetween = 1000
)

func TestMain(m *testing.M) {
	if os.Getenv(poolVariable) != "" {
		os.Exit(runGuest())
	}
	os.Exit(harness.Main(m))
}

func TestWhatWasAcknowledgedOutlivesLostFlushes(t *testing.T) {
	borrowMachineID(t)
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run("pool on "+fs, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			log := recorded(t, fs)
			took := time.Since(begin)
			flushed, between, err := prefixes(log)
			if err != nil {
				t.Fatal(err)
			}
			all := os.Getenv("TEST_CRASH_POINTS") == "all"
			chosen := slices.Concat(sample(flushed, someFlushed), sample(between, someBetween))
			if all {
				chosen = slices.Concat(flushed, sample(between, mostBetween))
			}
			slices.SortFunc(chosen, func(a, b prefix) int { return a.entries - b.entries })
			r := newReplayer(t, fs, log)
			r.fsck = all
			begin = time.Now()
			failed := 0
			for _, p := range chosen {
				if err := lookAt(t, r, p); err != nil {
					what := "nothing"
					if p.begun >= 0 {
						what = r.acts[p.begun].String()
					}
					t.Errorf("after %d entries, %d acts done, %s under way: %v", p.entries, p.done, what, err)
					if failed++; failed > 3 {
						break
					}
				}
			}
			fmt.Printf("log of writes: %s: %d acts, %d entries, %d of them flushes, recorded in %v; %d prefixes looked at in %v\n", fs, len(r.acts),
				len(log.Entries), len(flushed), took.Round(time.Second), len(chosen), time.Since(begin).Round(time.Second))
		})
	}
}

func lookAt(t *testing.T, r *replayer, p prefix) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lookLimit)
	defer cancel()
	return r.look(ctx, p)
}

// borrowMachineID gives the sandbox the machine-id of the machines that record: a pool belongs to its machine.
func borrowMachineID(t *testing.T) {
	t.Helper()
	path := filepath.Join(harness.Dir(t), "machine-id")
	if err := os.WriteFile(path, []byte(testbed.MachineID(machineName)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path, "/etc/machine-id", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/machine-id", 0); err != nil {
			t.Error(err)
		}
	})
}

// recorded lets a machine live the script, and reads its log.
func recorded(t *testing.T, fs string) *Log {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	logFile := filepath.Join(harness.Dir(t), "log.img")
	m := testbed.New(t, testbed.Config{
		Name: machineName, Modules: []string{"dm-log-writes", "loop"}, Shares: []string{filepath.Dir(harness.Binary(t))},
		Disks: []testbed.Disk{{Size: diskBytes}, {Path: logFile, Size: logBytes}},
	})
	run, err := m.Boot(t.Context(), testbed.Command{
		Path: self, Limit: recordLimit, Env: []string{poolVariable + "=" + fs, binaryVariable + "=" + harness.Binary(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := run.Wait(t.Context()); code != 0 || err != nil {
		t.Fatalf("record: exit code %d, %v\n%s%s\nkernel:\n%s", code, err, run.Stdout, run.Stderr, testbed.SinceUp(run.Kernel.String()))
	}
	file, err := os.Open(logFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // opened for reading
	log, err := ReadLog(file)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func newReplayer(t *testing.T, fs string, log *Log) *replayer {
	t.Helper()
	dir := harness.Dir(t)
	base, err := os.Create(filepath.Join(dir, "base.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := base.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := base.Truncate(diskBytes); err != nil {
		t.Fatal(err)
	}
	return &replayer{fs: fs, dir: dir, binary: harness.Binary(t), log: log, acts: script(fs != "ext4"), base: image{base}}
}
