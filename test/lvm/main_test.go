package lvm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

func TestMain(m *testing.M) {
	testbed.Inside("-disk", "200M,200M,200M,200M", "-module", "dm_mod", "-memory", "1G", "-time", "20m")
	os.Exit(m.Run())
}

// disks of the machine.
func disks() []string { return []string{"/dev/ubda", "/dev/ubdb", "/dev/ubdc", "/dev/ubdd"} }

// run runs a program as an administrator would, and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := attempt(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func attempt(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// machine is this machine's lvm, whose calls are counted.
type machine struct {
	runner *command.Runner
	calls  atomic.Int64
}

func newMachine() *machine {
	m := &machine{}
	m.runner = command.New(command.Config{Observe: func(tool, _ string, _ time.Duration) {
		if tool == "lvm" {
			m.calls.Add(1)
		}
	}})
	return m
}

// counted returns how many calls of lvm something takes.
func (m *machine) counted(do func()) int64 {
	before := m.calls.Load()
	do()
	return m.calls.Load() - before
}

// newGroup makes a volume group of the first so many disks, which goes with the test, with all that is in it.
func newGroup(t testing.TB, m *machine, count int) *lvm.Group {
	t.Helper()
	devices := disks()[:count]
	cleanDisks(t)
	if err := lvm.MakeGroup(t.Context(), m.runner, "vg", devices, []string{"made-by=test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cleanDisks(t) })
	return groupOn(t, m, devices)
}

func groupOn(t testing.TB, m *machine, devices []string) *lvm.Group {
	t.Helper()
	seen, err := lvm.Scan(t.Context(), m.runner, devices)
	if err != nil || len(seen) == 0 {
		t.Fatalf("%+v, %v", seen, err)
	}
	return lvm.NewGroup(lvm.Config{Run: m.runner, UUID: seen[0].GroupUUID, Devices: func(context.Context) ([]string, error) {
		return slices.Clone(devices), nil
	}})
}

// cleanDisks takes everything off the disks.
func cleanDisks(t testing.TB) {
	t.Helper()
	run(t, "dmsetup", "remove_all", "--force", "--deferred")
	for i := 0; i < 3; i++ {
		if out := run(t, "dmsetup", "ls"); out == "No devices found" {
			break
		}
		_, _ = attempt("dmsetup", "remove_all", "--force") // devices go before those below them
	}
	for _, dir := range []string{"/dev/vg", "/dev/renamed"} { // links that nobody took away
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range disks() {
		run(t, "wipefs", "-qaf", d)
		f, err := os.OpenFile(d, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(filesystem.Clear(context.Background(), f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
