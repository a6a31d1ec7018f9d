// Package driver runs the driver's binary as its users do: a process with a socket and a log. It knows
// nothing of the driver but its command line and the CSI services.
package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Config says which driver to start, and how. All paths are absolute.
type Config struct {
	// Binary is the program.
	Binary string
	// Socket is where it listens, Datastores its file of datastores, StateDir where it keeps its state.
	Socket, Datastores, StateDir string
	// Host is the name of this machine.
	Host string
	// MaxVolumes that may be attached to the host; 0 is no limit.
	MaxVolumes int64
	// Log is the file that its output is appended to.
	Log string
}

// Process is a running driver. Its methods may be called concurrently.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // set before done is closed
}

// Start starts the driver in a process group of its own, so that a Ctrl-C at the terminal reaches the
// caller and not the driver. It doesn't wait for the socket: see Ready.
func Start(c Config) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the driver's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	args := []string{
		"standalone", "--endpoint", "unix://" + c.Socket, "--datastores", c.Datastores,
		"--state-dir", c.StateDir, "--host", c.Host,
	}
	if c.MaxVolumes > 0 {
		args = append(args, "--max-volumes-per-node", strconv.FormatInt(c.MaxVolumes, 10))
	}
	cmd := exec.CommandContext(context.Background(), c.Binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the driver: %w", err)
	}
	p := &Process{cmd: cmd, log: c.Log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the driver (pid %d): %w", p.PID(), err)
	}
	<-p.done
	return nil
}

// Stop ends the process with SIGTERM and waits until it is gone. An exit code other than 0 is an error,
// and so is a context that ends first: the process is killed then.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the driver (pid %d): %w", p.PID(), err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("the driver (pid %d) did not end on SIGTERM: %w", p.PID(), ctx.Err()), p.Kill())
	}
	if p.err != nil {
		return fmt.Errorf("the driver ended on SIGTERM with %w", p.err)
	}
	return nil
}

// Tail returns the last lines of the log, as many as asked for.
func (p *Process) Tail(lines int) string {
	return Tail(p.log, lines)
}

// Tail returns the last lines of a file, or why it can't be read.
func Tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
