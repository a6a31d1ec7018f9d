package testbed_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// boot runs a shell script in the machine.
func boot(t *testing.T, m *testbed.Machine, script string, options ...func(*testbed.Command)) *testbed.Run {
	t.Helper()
	command := testbed.Command{Path: "/bin/sh", Args: []string{"-euc", script}, Limit: time.Minute}
	for _, option := range options {
		option(&command)
	}
	run, err := m.Boot(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// succeed waits for the end of a run whose command and machine must both be well, and gives its output.
func succeed(t *testing.T, run *testbed.Run) string {
	t.Helper()
	code, err := run.Wait(t.Context())
	if code != 0 || err != nil {
		t.Fatalf("exit code %d, %v\n%s%s\nkernel:\n%s", code, err, run.Stdout, run.Stderr, testbed.SinceUp(run.Kernel.String()))
	}
	return run.Stdout.String()
}

func waitLine(t *testing.T, run *testbed.Run, text string) {
	t.Helper()
	if _, err := run.WaitLine(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func TestPowerCutKeepsWhatWasSyncedAndTakesWhatWasNot(t *testing.T) {
	m := testbed.New(t, testbed.Config{Disks: []testbed.Disk{{Size: 512 << 20}}})
	first := boot(t, m, `
		mkfs.ext4 -q /dev/ubda
		mount -o commit=300 /dev/ubda /mnt
		echo synced >/mnt/synced
		sync /mnt/synced /mnt
		echo lost >/mnt/unsynced
		echo READY
		sleep 60`)
	waitLine(t, first, "READY")
	first.PowerCut()
	if code, err := first.Wait(t.Context()); code != -1 || !errors.Is(err, testbed.ErrPowerCut) {
		t.Errorf("after a power cut Wait gave %d, %v", code, err)
	}
	if left := processes(t, m.Name()); len(left) > 0 {
		t.Errorf("processes left after the power cut: %q", left)
	}

	got := succeed(t, boot(t, m, `
		mount /dev/ubda /mnt
		cat /mnt/synced
		cat /mnt/unsynced || true`))
	if got != "synced\n" {
		t.Errorf("after the power cut the disk held %q, want only what was synced", got)
	}
}

func TestMachineKeepsItsIdentityOverBootsAndNothingElse(t *testing.T) {
	var marks []string
	for _, folder := range []string{"/etc", "/var/lib", "/usr/bin", "/tmp", "/run", "/root"} {
		marks = append(marks, folder+"/datastore-csi-testbed-self-test")
	}
	m := testbed.New(t, testbed.Config{Name: "node-1"})
	script := `
		hostname
		cat /etc/machine-id
		cat /proc/sys/kernel/random/boot_id
		for mark in ` + strings.Join(marks, " ") + `; do
			test ! -e $mark
			echo x >$mark
		done`
	first := strings.Fields(succeed(t, boot(t, m, script)))
	second := strings.Fields(succeed(t, boot(t, m, script)))
	if len(first) != 3 || len(second) != 3 {
		t.Fatalf("machines printed %q and %q", first, second)
	}
	if first[0] != "node-1" || second[0] != "node-1" {
		t.Errorf("host names %s, %s", first[0], second[0])
	}
	if want := testbed.MachineID("node-1"); first[1] != want || second[1] != want {
		t.Errorf("machine-ids %s, %s, want %s", first[1], second[1], want)
	}
	if first[2] == second[2] {
		t.Errorf("both boots have the boot ID %s", first[2])
	}
	for _, mark := range marks {
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the machine has left %s on the host (%v)", mark, err)
		}
	}
}

func TestSharedFolderIsTheHosts(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "down"), []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := testbed.New(t, testbed.Config{})
	succeed(t, boot(t, m, "pwd >up; cat down >>up; mv up renamed", func(c *testbed.Command) { c.Dir = folder }))
	got, err := os.ReadFile(filepath.Join(folder, "renamed"))
	if want := folder + "\nfrom the host"; string(got) != want {
		t.Errorf("the machine wrote %q (%v), want %q", got, err, want)
	}
}

func TestKernelPanicEndsTheRunAtOnce(t *testing.T) {
	run := boot(t, testbed.New(t, testbed.Config{}), "echo c >/proc/sysrq-trigger; sleep 60")
	code, err := run.Wait(t.Context())
	if code != -1 || !errors.Is(err, testbed.ErrKernel) || !errors.Is(err, testbed.ErrDied) {
		t.Errorf("after a panic Wait gave %d, %v", code, err)
	}
	if log := run.Kernel.String(); !strings.Contains(log, "sysrq triggered crash") {
		t.Errorf("the kernel log doesn't tell of the panic:\n%s", log)
	}
}

func TestTaskBlockedInTheKernelFailsTheRunThoughItsCommandSucceeds(t *testing.T) {
	m := testbed.New(t, testbed.Config{Disks: []testbed.Disk{{Size: 64 << 20}}, HungAfter: time.Second})
	run := boot(t, m, `
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda /mnt
		fsfreeze --freeze /mnt
		touch /mnt/file &
		until dmesg | grep 'blocked for more than'; do sleep 0.5; done
		fsfreeze --unfreeze /mnt
		wait`)
	if code, err := run.Wait(t.Context()); code != 0 || !errors.Is(err, testbed.ErrKernel) {
		t.Errorf("with a task blocked Wait gave %d, %v", code, err)
	}
	if log := run.Kernel.String(); !strings.Contains(log, "task touch:") {
		t.Errorf("the kernel log doesn't name the task:\n%s", log)
	}
}

func TestMachineThatCannotBeSetUpTellsWhy(t *testing.T) {
	run := boot(t, testbed.New(t, testbed.Config{Modules: []string{"no-such-module"}}), "true")
	code, err := run.Wait(t.Context())
	if code != -1 || !errors.Is(err, testbed.ErrNotSetUp) || !strings.Contains(err.Error(), "no-such-module") {
		t.Errorf("with a module that isn't there Wait gave %d, %v", code, err)
	}
}

func TestMachineEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := testbed.New(t, testbed.Config{})
	run, err := m.Boot(ctx, testbed.Command{Path: "/bin/sleep", Args: []string{"60"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Boot(ctx, testbed.Command{Path: "/bin/true"}); !errors.Is(err, testbed.ErrRunning) {
		t.Errorf("second boot of a running machine: %v", err)
	}
	cancel()
	if _, err := run.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended Wait gave %v", err)
	}
	if left := processes(t, m.Name()); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
}

func TestWaitLineTellsOfAMachineThatEndsBefore(t *testing.T) {
	run := boot(t, testbed.New(t, testbed.Config{}), "echo one; echo two; echo last words >&2; exit 7")
	waitLine(t, run, "o")
	waitLine(t, run, "two") // "one" is behind
	_, err := run.WaitLine(t.Context(), "two")
	if err == nil || !strings.Contains(err.Error(), "exit code 7") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("waiting for a line that doesn't come: %v", err)
	}
}

// processes gives the command lines of a machine's processes on the host.
func processes(t *testing.T, name string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), "umid="+name+"\x00") {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
