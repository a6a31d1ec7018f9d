package control

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Programs builds programs of the test cluster where that was not done yet, and gives the folder that holds them. module is
// "kubernetes" or "sidecars". The first build takes minutes for each program; calls at the same time, of other processes too, wait
// for each other.
func Programs(ctx context.Context, module string, programs ...string) (string, error) {
	script, err := beside("programs/build.sh")
	if err != nil {
		return "", err
	}
	return output(exec.CommandContext(ctx, script, append([]string{module}, programs...)...))
}

// install puts Debian's packages in place that a cluster needs beside the programs of Programs.
func install(ctx context.Context) error {
	script, err := beside("../../hack/deps.sh")
	if err != nil {
		return err
	}
	_, err = output(exec.CommandContext(ctx, script, "cluster"))
	return err
}

// beside gives the path of a file of test/cluster.
func beside(name string) (string, error) {
	_, source, _, known := runtime.Caller(0)
	if !known || !filepath.IsAbs(source) {
		return "", errors.New("find test/cluster: this program was built with -trimpath")
	}
	return filepath.Join(filepath.Dir(source), "..", name), nil
}

// output runs a command and gives the one line that it prints. What it says beside that is part of the error.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("run %s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}
