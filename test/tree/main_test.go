package tree

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// binaryVariable names the driver's binary to the machine.
const binaryVariable = "DATASTORE_CSI_TEST_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(testbed.GuestVariable) == "" {
		dir, err := buildForMachine()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		testbed.Inside("-disk", "1G,1G", "-share", dir, "-module", "loop") // never returns here
	}
	os.Exit(m.Run())
}

// buildForMachine builds the driver beside the test's own program, which is removed with it.
func buildForMachine() (dir string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(filepath.Dir(self), "datastore-csi")
	return filepath.Dir(self), errors.Join(harness.Build(binary), os.Setenv(binaryVariable, binary))
}

// disk is a file system that enforces project quotas, or could.
type disk struct {
	name, device string
	mkfs         []string
	enforce      string
	account      string
}

func disks() []disk {
	return []disk{
		{"ext4", "/dev/ubda", []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard,quotatype=prjquota", "-O", "quota,project"}, "prjquota", ""},
		{"xfs", "/dev/ubdb", []string{"mkfs.xfs", "-q", "-f", "-K"}, "prjquota", "pqnoenforce"},
	}
}

// mounted makes the file system anew and mounts it.
func (d disk) mounted(t *testing.T, options string) string {
	t.Helper()
	run(t, d.mkfs[0], append(d.mkfs[1:], d.device)...)
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // users without privileges work in it
	must(t, unix.Mount(d.device, dir, d.name, 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// onEach runs a test on each file system, with project quotas enforced.
func onEach(t *testing.T, test func(t *testing.T, d disk, dir string)) {
	for _, d := range disks() {
		t.Run(d.name, func(t *testing.T) { test(t, d, d.mounted(t, d.enforce)) })
	}
}

func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("%v (%v), want kind %v", err, fault.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// folder makes a directory and opens it.
func folder(t *testing.T, path ...string) *os.File {
	t.Helper()
	dir := filepath.Join(path...)
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// fill writes a file until it has that many bytes or the file system refuses, and returns how many it took.
func fill(t *testing.T, path string, bytes int64) int64 {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	must(t, err)
	defer f.Close()
	chunk, done := make([]byte, 256<<10), int64(0)
	for done < bytes {
		n, err := f.Write(chunk[:min(int64(len(chunk)), bytes-done)])
		done += int64(n)
		if errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) {
			return done
		}
		must(t, err)
	}
	must(t, f.Sync())
	return done
}
