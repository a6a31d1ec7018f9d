package testbed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// How a run can end other than by its command's exit. Compare with errors.Is.
var (
	ErrTimeLimit = errors.New("time limit reached, machine killed")
	ErrPowerCut  = errors.New("power cut")
	ErrDied      = errors.New("machine ended before its command did")
	ErrNotSetUp  = errors.New("machine could not be set up")
	// ErrKernel means that the machine's kernel reported a fault of its own: an oops, a BUG, a panic, a task
	// that is blocked for too long.
	ErrKernel = errors.New("kernel reported a fault")
)

// Run is one boot of a machine, from power on to power off.
type Run struct {
	Stdout *Output // what the command has written so far
	Stderr *Output
	Kernel *Output // the kernel's messages, from power on

	name    string
	process *exec.Cmd
	cpu     *os.File
	stop    context.CancelCauseFunc // kills the machine
	stopped func() error            // why it was killed, if it was

	up       chan struct{} // closed when the command starts
	done     chan struct{} // closed when no process is left; what follows is set by then
	exitCode *int
	failed   string
	err      error
}

// startRun starts the kernel in a PID namespace of its own: when that is killed no helper of the kernel stays,
// and no lock on a disk.
func startRun(parent context.Context, m *Machine, folder string, command Command) (*Run, error) {
	r := &Run{
		Stdout: newOutput(command.Stdout), Stderr: newOutput(command.Stderr), Kernel: newOutput(nil),
		name: m.config.Name,
		up:   make(chan struct{}), done: make(chan struct{}),
	}
	limit := command.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	limited, free := context.WithTimeoutCause(parent, limit, fmt.Errorf("%w after %s", ErrTimeLimit, limit))
	ctx, stop := context.WithCancelCause(limited)
	r.stop, r.stopped = stop, func() error { return context.Cause(ctx) }
	lines, err := r.start(ctx, m, folder)
	if err != nil {
		free()
		return nil, err
	}
	go func() {
		defer free()
		r.collect(lines)
	}()
	return r, nil
}

// start gives the reading ends of the machine's console and of its three serial lines.
func (r *Run) start(ctx context.Context, m *Machine, folder string) (lines []*os.File, err error) {
	var ends []*os.File // that only the machine needs from now on
	defer func() {
		closeAll(ends)
		if err != nil {
			closeAll(append(lines, r.cpu))
		}
	}()
	for range 4 {
		// Sockets and not pipes: the kernel polls its lines for input, and complains where it can't.
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return lines, fmt.Errorf("make a serial line: %w", err)
		}
		lines = append(lines, os.NewFile(uintptr(pair[0]), "serial line"))
		ends = append(ends, os.NewFile(uintptr(pair[1]), "machine's end"))
	}
	if err := allowMaps("/proc/sys/vm/max_map_count"); err != nil {
		return lines, err
	}
	cpu := 0
	if m.config.CPU != nil {
		cpu = *m.config.CPU
	} else if cpu, r.cpu, err = claimCPU("/run/lock"); err != nil {
		return lines, err
	}
	// setsid is process 1, and not the kernel itself: a kernel that panics kills itself by a signal, which
	// process 1 is immune to.
	args := []string{"--fork", "--wait", "taskset", "--cpu-list", strconv.Itoa(cpu), "linux.uml"}
	r.process = exec.CommandContext(ctx, "setsid", append(args, kernelArgs(m, folder)...)...)
	r.process.Dir = folder
	state := filepath.Join(filepath.Dir(m.config.Launcher), "xstate.so")
	if _, err := os.Stat(state); err != nil {
		return lines, fmt.Errorf("look for what lies beside the launcher (test/testbed/vm builds both): %w", err)
	}
	r.process.Env = append(os.Environ(), "LD_PRELOAD="+state, "TMPDIR=/dev/shm") // where the machine's memory lies
	r.process.Stdout, r.process.Stderr, r.process.ExtraFiles = ends[0], ends[0], ends[1:]
	r.process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	return lines, r.process.Start()
}

func closeAll(files []*os.File) {
	for _, file := range files {
		if file != nil {
			_ = file.Close() // read to its end, handed over, or never used
		}
	}
}

// kernelArgs is the kernel's command line. What stands behind "--" are the arguments of its first process.
func kernelArgs(m *Machine, folder string) []string {
	args := []string{
		"mem=" + strconv.FormatInt(m.config.Memory>>20, 10) + "M",
		"umid=" + m.config.Name, "uml_dir=" + folder,
		"rootfstype=hostfs", "rootflags=/", "ro",
		"con=null", "con0=fd:1", "pty.legacy_count=0",
		"ssl=null", "ssl0=fd:3", "ssl1=fd:4", "ssl2=fd:5",
		"lsm=", "printk.time=1", "printk.devkmsg=on",
		"oops=panic", "panic=-1", "noreboot", // whatever goes wrong ends the machine
	}
	for i, disk := range m.disks {
		args = append(args, fmt.Sprintf("ubd%d=%s", i, disk))
	}
	for i, tap := range m.config.Interfaces {
		args = append(args, fmt.Sprintf("vec%d:transport=tap,ifname=%s,depth=128,gro=1", i, tap))
	}
	return append(args, "init="+m.config.Launcher, "--", initWord, folder)
}

func (r *Run) collect(lines []*os.File) {
	var readers sync.WaitGroup
	outputs := []*Output{r.Kernel, r.Stdout, r.Stderr}
	errs := make([]error, len(outputs))
	for i, output := range outputs {
		readers.Go(func() { errs[i] = output.readAll(lines[i]) })
	}
	readers.Go(func() { r.readReports(lines[3]) })
	_ = r.process.Wait() // until the whole PID namespace is gone; how it went is in ProcessState
	readers.Wait()       // all writers to the pipes are gone too
	closeAll(append(lines, r.cpu))
	r.err = errors.Join(r.verdict(), errors.Join(errs...))
	close(r.done)
}

func (r *Run) readReports(line io.Reader) {
	reports := bufio.NewScanner(line)
	for reports.Scan() {
		report, err := order.ParseReport(reports.Text())
		switch {
		case err != nil:
			r.failed = err.Error()
		case report.Up:
			close(r.up)
		case report.Exit != nil:
			r.exitCode = report.Exit
		default:
			r.failed = report.Failed
		}
	}
}

// verdict says what was wrong with the run, beside its command's exit code.
func (r *Run) verdict() error {
	var faults error
	if found := kernelFaults(r.Kernel.String()); len(found) > 0 {
		faults = fmt.Errorf("%w: %q", ErrKernel, found)
	}
	switch {
	case r.exitCode == nil && r.stopped() != nil:
		return errors.Join(fmt.Errorf("machine %s: %w", r.name, r.stopped()), faults)
	case r.failed != "":
		return errors.Join(fmt.Errorf("machine %s: %w: %s", r.name, ErrNotSetUp, r.failed), faults)
	case r.exitCode == nil:
		return errors.Join(fmt.Errorf("machine %s: %w (%v)", r.name, ErrDied, r.process.ProcessState), faults)
	case faults != nil:
		return fmt.Errorf("machine %s: %w", r.name, faults)
	}
	return nil
}
