package container_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
)

// machine starts a host whose first process starts a container with the host's processes, in which this program does what act says: see
// helpers_test.go. folder is shared by both.
func machine(t *testing.T, folder, act string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "host", folder, act)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// output runs a machine to its end.
func output(t *testing.T, act string) (string, int) {
	t.Helper()
	cmd := machine(t, t.TempDir(), act)
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if said := cmd.Stderr.(*bytes.Buffer); said.Len() > 0 {
		t.Logf("stderr: %s", said)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestAProgramInAContainerSeesItsHostAndKeepsTheContainersToolsAndAccount(t *testing.T) {
	out, code := output(t, "report")
	var got report
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("%v, code %d: %s", err, code, out)
	}
	want := report{
		HostFile: true, ContainerFile: false, HostMounts: true, Tool: "from the container", Token: "secret", Renewed: "renewed",
		KubeletDir: got.Folder + "/var/lib/k0s/kubelet", Inherited: "", Folder: got.Folder, Name: "program",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTheExitCodeIsTheProgramsOwn(t *testing.T) {
	for act, want := range map[string]int{"exit": 7, "die": 128 + int(unix.SIGKILL)} {
		if out, code := output(t, act); code != want {
			t.Errorf("%s: code %d, want %d: %s", act, code, want, out)
		}
	}
}

// waiting starts a machine whose program waits to be told to end.
func waiting(t *testing.T) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := machine(t, t.TempDir(), "wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "waiting\n" {
		t.Fatalf("it said %q, %v; stderr: %s", line, err, cmd.Stderr)
	}
	return cmd, lines
}

func TestSignalsArePassedOn(t *testing.T) {
	for _, signal := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd, out := waiting(t)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(out)
			_ = cmd.Wait() // its code is looked at
			if got := strings.TrimSpace(string(rest)); err != nil || got != "got "+signal.String() || cmd.ProcessState.ExitCode() != 3 {
				t.Errorf("it said %q (%v) and ended with %d; stderr: %s", got, err, cmd.ProcessState.ExitCode(), cmd.Stderr)
			}
		})
	}
}

// Else two of them would work on the same storage once the container is started again.
func TestTheProgramDiesWithItsContainer(t *testing.T) {
	cmd, _ := waiting(t)
	if err := cmd.Process.Signal(unix.SIGUSR1); err != nil { // has the process in the container killed
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, cmd.Stderr)
	}
}

func TestWithoutTheHostsProcessesThereIsNoHostToEnter(t *testing.T) {
	// Process 1 of this machine, or whatever has that number here, in a namespace of this test's own.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "alone", t.TempDir(), "report")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "hostPID") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAVariableOfThatNameThatIsNotTheDriversIsRefused(t *testing.T) {
	for _, value := range []string{"", "1", "root,mounts", "root,mounts,account"} {
		t.Setenv("DATASTORE_CSI_CONTAINER", value)
		// Whatever the test has open at those numbers is no folder.
		if c, err := container.Inside(); err == nil {
			t.Errorf("%q: %v", value, c)
		}
	}
	if c, err := container.Inside(); c != nil || err != nil {
		t.Errorf("without: %v, %v", c, err)
	}
	var none *container.Container
	if none.Tools().Root != "" || none.AccountDir() != "" {
		t.Error("no container has paths")
	}
}

func TestMain(m *testing.M) {
	roles := map[string]func(folder, act string) int{"host": asHost, "alone": asContainer, "container": asContainer}
	if len(os.Args) == 4 && roles[os.Args[1]] != nil && filepath.IsAbs(os.Args[2]) {
		os.Exit(roles[os.Args[1]](os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}
