package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// endWithin is how long the driver may take to end.
const endWithin = time.Minute

// driver is the driver's binary as a process. It is started and ended several times, on the same state.
type driver struct {
	*harness.Client
	args []string
	log  string

	cmd  *exec.Cmd // nil where it doesn't run
	done chan error
}

// newDriver prepares a driver whose files lie in a folder.
func newDriver(binary, folder, host, datastores string) (*driver, error) {
	socket := filepath.Join(folder, "csi.sock")
	client, err := harness.Dial(socket)
	if err != nil {
		return nil, err
	}
	return &driver{
		Client: client, log: filepath.Join(folder, "driver.log"),
		args: []string{
			binary, "standalone", "--endpoint", "unix://" + socket, "--datastores", datastores,
			"--state-dir", filepath.Join(folder, "state"), "--host", host,
		},
	}, nil
}

// start starts the process and waits until it is ready. It gets a process group of its own, so that a
// Ctrl-C ends the demo and leaves the driver there for cleaning up.
func (d *driver) start(ctx context.Context) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), d.args[0], d.args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return fmt.Errorf("start the driver: %w", err)
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(d.cmd, d.done)

	ctx, cancel := context.WithTimeout(ctx, harness.StartLimit)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- d.Ready(ctx) }()
	select {
	case err := <-ready:
		return err
	case err := <-d.done:
		d.cmd = nil
		return fmt.Errorf("the driver ended at once (%w)", errors.Join(errors.New("its log says why"), err))
	}
}

// end sends the process a signal and waits until it is gone. Ending on SIGTERM must leave the exit code 0.
func (d *driver) end(signal syscall.Signal) error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to the driver: %w", signal, err)
	}
	select {
	case err := <-d.done:
		d.cmd = nil
		if signal != syscall.SIGKILL && err != nil {
			return fmt.Errorf("the driver ended on %s with: %w", signal, err)
		}
		return nil
	case <-time.After(endWithin):
		return fmt.Errorf("the driver (pid %d) is still there %s after %s", d.cmd.Process.Pid, endWithin, signal)
	}
}

// tail returns the last lines of the log.
func (d *driver) tail(lines int) string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
