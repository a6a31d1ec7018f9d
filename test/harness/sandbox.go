package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// roleVariable tells a copy of the test binary which part it plays.
	roleVariable = "DATASTORE_CSI_TEST_ROLE"
	// baseVariable names the sandbox's folder.
	baseVariable = "DATASTORE_CSI_TEST_BASE"
	// binaryVariable names the driver's binary. Where it is set nothing is built.
	binaryVariable = "DATASTORE_CSI_TEST_BINARY"

	roleInit  = "init"
	roleTests = "tests"

	// sandboxBytes bounds what all pools of a test binary may hold; tmpfs takes memory for what is written.
	sandboxBytes = "size=12g"
)

// Main runs a package's tests in a sandbox and returns the exit code: a mount and a PID namespace of
// their own and a tmpfs for all files. Whatever a test leaves behind, a mount, a loop device, a driver, goes
// with the sandbox's first process, even where the tests are killed. Needs root.
//
// The driver's binary is built first, unless the environment names one. TEST_MACHINE=1 in the environment runs the tests in a
// machine of the test bed.
func Main(m *testing.M) int {
	switch os.Getenv(roleVariable) {
	case roleInit:
		return report(asInit())
	case roleTests:
		return m.Run()
	}
	return report(outside())
}

// MachineMain is Main for tests that need the kernel of the test bed.
func MachineMain(m *testing.M) int {
	if err := os.Setenv(machineVariable, "1"); err != nil {
		return report(1, err)
	}
	return Main(m)
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "test sandbox:", err)
		return 1
	}
	return code
}

// outside builds the driver, makes the namespaces and waits for them.
func outside() (code int, err error) {
	if os.Getenv(machineVariable) != "" && !InMachine() {
		return 1, enterMachine()
	}
	base, err := os.MkdirTemp("", "dcsi-")
	if err != nil {
		return 1, err
	}
	// The folder is empty here: the tmpfs on it exists in the sandbox only.
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	binary := os.Getenv(binaryVariable)
	if binary == "" {
		binary = filepath.Join(base, "datastore-csi")
		if err := Build(binary); err != nil {
			return 1, err
		}
	}
	return again(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Setpgid: true},
		roleVariable+"="+roleInit, baseVariable+"="+base, binaryVariable+"="+binary)
}

// Build makes the driver's binary at a path, as the Makefile does: static.
func Build(binary string) error {
	cmd := exec.Command("go", "build", "-o", binary, "github.com/datastore-csi/datastore-csi/cmd/datastore-csi")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the driver: %w\n%s", err, out)
	}
	return nil
}

// again runs this test binary with the same arguments and another role, and returns its exit code. A
// signal to end is passed on.
func again(attr *syscall.SysProcAttr, env ...string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = attr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // it may have ended
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// forgetOthers takes what other tests have mounted out of this namespace: its copy would keep their devices busy for as
// long as this sandbox lives. What these tests run from, in a machine of the test bed, is no others'.
func forgetOthers(base string) error {
	self, selfErr := os.Executable()
	here, hereErr := os.Getwd()
	if err := errors.Join(selfErr, hereErr); err != nil {
		return err
	}
	needed := []string{base, self, here, os.Getenv(binaryVariable)}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	within := func(path, folder string) bool { return strings.HasPrefix(path+"/", folder+"/") }
	for line := range strings.Lines(string(text)) {
		path := unescape(strings.Fields(line)[4])
		ours := slices.ContainsFunc(needed, func(n string) bool { return within(n, path) })
		if path == os.TempDir() || !within(path, os.TempDir()) || within(path, base) || ours {
			continue
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("leave %s to others: %w", path, err)
		}
	}
	return nil
}

// asInit is the first process of the sandbox: it makes the mounts, runs the tests, and reaps what is
// orphaned (tools of a driver that was killed).
func asInit() (int, error) {
	base := os.Getenv(baseVariable)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 1, fmt.Errorf("mount /proc: %w", err)
	}
	if err := errors.Join(forgetOthers(base), hideBuild(base), ownLinks()); err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if err := os.Setenv(roleVariable, roleTests); err != nil {
		return 1, err
	}
	child, err := os.StartProcess(self, os.Args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	go func() {
		for s := range signals {
			_ = child.Signal(s) // it may have ended
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()), clearAway(base)
		case pid == child.Pid:
			return status.ExitStatus(), clearAway(base)
		}
	}
}

// clearAway ends all other processes of the sandbox and detaches the loop devices that failed tests left: they, unlike
// mounts, would outlive it.
func clearAway(base string) error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for { // until no child is left
		_, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	// A loop device that a mount uses is detached with it.
	if err := DetachUnder(base); err != nil {
		return fmt.Errorf("clear away: %w", err)
	}
	return nil
}

// hideBuild mounts the sandbox's tmpfs on base and keeps the driver's binary visible in it.
func hideBuild(base string) error {
	built := filepath.Join(base, "datastore-csi")
	content, err := os.ReadFile(built)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, sandboxBytes); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", base, err)
	}
	if content == nil {
		return nil
	}
	return os.WriteFile(built, content, 0o755)
}

// Dir makes a folder for a test in the sandbox, short enough for the path of a socket. It is removed when the
// test ends, since it takes memory.
func Dir(t testing.TB) string {
	t.Helper()
	base := os.Getenv(baseVariable)
	if base == "" {
		t.Fatal("not in the sandbox: TestMain must call harness.Main")
	}
	dir, err := os.MkdirTemp(base, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the test's folder: %v", err)
		}
	})
	return dir
}

// Binary is the path of the driver's binary.
func Binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv(binaryVariable)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the driver's binary: %v", err)
	}
	return path
}
