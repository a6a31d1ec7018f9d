package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// killGrace is how long Run waits, after it killed a group, for the kernel to let the child go.
	killGrace = 500 * time.Millisecond
	// pipeGrace is how long output is still read after the tool ended, for a descendant in another
	// process group (a daemon that it started) may hold the pipe open for ever.
	pipeGrace = 250 * time.Millisecond
)

// process is one child from its start until it is reaped.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	// mounts is a path of the mount namespace that it runs in; "" is this process's.
	mounts string
	// done gets the child's end. It has room for one, so that the reaper never waits for a reader.
	done chan error

	straggler straggler

	mu      sync.Mutex
	pid     int  // 0 before the start
	reaped  bool // the pid may belong to somebody else by now
	stopped bool // the group is to be killed
}

// execute starts the tool, waits for it or the context, and tells the result.
func (r *Runner) execute(ctx context.Context, path string, c Cmd) ([]byte, string, error) {
	began := time.Now()
	p := r.newProcess(path, c)
	go p.live()
	select {
	case err := <-p.done:
		return p.conclude(c, err)
	case <-ctx.Done():
	}
	p.kill()
	held := time.NewTimer(killGrace)
	defer held.Stop()
	note := ""
	select {
	case err := <-p.done:
		// Where it never started, or was through before it could be killed, that is what happened.
		if state := p.cmd.ProcessState; state == nil || state.Success() {
			return p.conclude(c, err)
		}
	case <-held.C:
		note = "; the kernel still holds the process"
		p.straggler.abandon(func() { r.addStuck(c.Tool, 1) }, func() { r.addStuck(c.Tool, -1) })
	}
	e := p.failure(c, -1, ctx.Err())
	return nil, ResultTimeout, fault.New(fault.Unavailable, "%s was killed after %v%s: %w",
		c.Tool, time.Since(began).Round(time.Millisecond), note, e)
}

// environment is the whole environment of a tool: nothing is inherited.
func (r *Runner) environment(extra []string) []string {
	return slices.Concat([]string{"PATH=" + r.path, "LC_ALL=C", "HOME=/"}, extra)
}

func (r *Runner) newProcess(path string, c Cmd) *process {
	limit := c.MaxOutput
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	p := &process{mounts: r.place.Mounts, stdout: &output{limit: limit}, stderr: &output{limit: limit}, done: make(chan error, 1)}
	if c.Combined {
		p.stderr = p.stdout
	}
	p.cmd = &exec.Cmd{
		Path: path, Args: append([]string{c.Tool}, c.Args...), Env: r.environment(c.Env), Dir: "/",
		Stdout: p.stdout, Stderr: p.stderr, WaitDelay: pipeGrace,
		SysProcAttr: &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	}
	if c.Stdin != nil {
		p.cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	return p
}

// live starts the child and reaps it. It stays on one thread, because the kernel sends the signal of a
// dead parent when the thread that forked ends, and a thread of the Go runtime may end early.
func (p *process) live() {
	runtime.LockOSThread()
	err := p.enter()
	if p.mounts == "" {
		defer runtime.UnlockOSThread()
	} // else the thread, which is of another mount namespace now, ends with this goroutine
	if err == nil {
		err = p.cmd.Start()
	}
	if err == nil {
		p.started()
		p.awaitExit()
		p.leave()
		err = p.cmd.Wait()
	}
	p.straggler.end(func() { p.done <- err })
}

// enter brings this thread into the mount namespace of the tool, which the child gets from it.
func (p *process) enter() error {
	if p.mounts == "" {
		return nil
	}
	fd, err := unix.Open(p.mounts, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the tools' mount namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("part with the other threads' root: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the tools' mount namespace: %w", err)
	}
	return nil
}

// started notes the pid, and kills at once where the context ended during the start.
func (p *process) started() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = p.cmd.Process.Pid
	if p.stopped {
		killGroup(p.pid)
	}
}

// awaitExit returns when the child has ended, and leaves it a zombie, so that its pid, which is also
// its group's, stays its own.
func (p *process) awaitExit() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// leave kills what the child left in its group, while the zombie still keeps the group's number.
func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	killGroup(p.pid)
	p.reaped = true
}

// kill ends the whole group, now or as soon as there is one.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.pid != 0 && !p.reaped {
		killGroup(p.pid)
	}
}

// killGroup can fail only where nobody is left to kill.
func killGroup(pgid int) { _ = unix.Kill(-pgid, unix.SIGKILL) }

// conclude turns the end of a child that nobody killed into Run's results. err is exec.Cmd's.
func (p *process) conclude(c Cmd, err error) ([]byte, string, error) {
	state := p.cmd.ProcessState
	if state == nil {
		return nil, ResultFailed, fault.As(fault.Internal, p.failure(c, -1, fmt.Errorf("can't be started: %w", err)))
	}
	if code := state.ExitCode(); code != 0 {
		e := p.failure(c, code, errors.New(state.String()))
		if slices.Contains(c.OKCodes, code) {
			return p.stdout.bytes(), ResultOK, fault.As(fault.Internal, e)
		}
		return p.stdout.bytes(), ResultFailed, fault.As(fault.Internal, e)
	}
	// What is left of err is about the pipes: a reader that went early (the tool didn't want its
	// input), or a daemon that holds them. The tool itself has succeeded.
	if p.stdout.truncated() {
		return p.stdout.bytes(), ResultFailed, fault.As(fault.Internal, p.failure(c, 0,
			fmt.Errorf("%w after %d bytes", ErrTruncated, p.stdout.limit)))
	}
	return p.stdout.bytes(), ResultOK, nil
}

// failure describes the run with everything secret taken out.
func (p *process) failure(c Cmd, code int, err error) *Error {
	secrets := c.secrets()
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = clean(redact(a, secrets))
	}
	return &Error{Tool: clean(redact(c.Tool, secrets)), Args: args, ExitCode: code, Stderr: p.stderr.text(secrets), Err: err}
}
