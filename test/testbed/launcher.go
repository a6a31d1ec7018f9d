package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/pid1"
)

// initWord, as first argument, makes the launcher a machine's first process.
const initWord = "first-process"

// RunFirstProcess is the first thing in the launcher's main. In a machine it is what runs there as process 1,
// and never returns; elsewhere it does nothing. The kernel may add arguments of its own.
func RunFirstProcess(args []string) {
	if len(args) >= 3 && args[1] == initWord && os.Getpid() == 1 {
		pid1.Main(args[2])
	}
}

// Inside returns if this process runs in a machine. If it doesn't, it is replaced by the vm command, which runs it
// anew in a machine that has vmOptions (as vm takes them). It is for the first line of a TestMain:
//
//	func TestMain(m *testing.M) {
//		testbed.Inside("-disk", "8G", "-module", "nfsd")
//		os.Exit(m.Run())
//	}
//
// Then a plain go test runs the package's tests where they belong, and nowhere else. Where that can't be the
// process ends with exit code 125.
func Inside(vmOptions ...string) {
	if os.Getenv(GuestVariable) != "" {
		return
	}
	launcher, err := FindLauncher(context.Background())
	if err == nil {
		err = syscall.Exec(launcher, slices.Concat([]string{launcher}, vmOptions, os.Args), os.Environ())
	}
	fmt.Fprintf(os.Stderr, "run this in a test machine: %v\n", err)
	os.Exit(125)
}

// FindLauncher gives the path of the program of cmd/vm, which is a machine's first process too: what [Config.Launcher] is by
// default. The script vm builds it, and installs what a machine needs, where that is not done yet.
func FindLauncher(ctx context.Context) (string, error) {
	_, source, _, known := runtime.Caller(0)
	if !known || !filepath.IsAbs(source) {
		return "", errors.New("find the test bed's folder: this program was built with -trimpath; set Config.Launcher")
	}
	script := filepath.Join(filepath.Dir(source), "vm")
	out, err := exec.CommandContext(ctx, script, "-launcher").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("build the test bed's launcher with %s: %w", script, err)
	}
	return strings.TrimSpace(string(out)), nil
}
