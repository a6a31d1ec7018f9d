package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/cluster/node"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// ErrRunning means that there is a cluster in the folder.
var ErrRunning = errors.New("a cluster is running there")

// state is what this machine knows of a cluster that runs.
type state struct {
	PID int
	// Started is when the process began, in the kernel's ticks since the boot: no later process of that number has it.
	Started string
}

// Up starts a cluster and returns once all its nodes are Ready. program is one that gives its arguments "run FOLDER" to [Run] and
// "node FILE" to [node.Main]. The cluster goes on when this process ends; Down ends it.
func Up(ctx context.Context, c Config, program string) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("start a cluster: %w", err)
	}
	pid, err := running(c.Dir)
	if err != nil || pid != 0 {
		return fmt.Errorf("start a cluster in %s: %w", c.Dir, errors.Join(err, ErrRunning))
	}
	if c.Program, err = filepath.Abs(program); err != nil {
		return err
	}
	if err := c.prepare(ctx); err != nil {
		return fmt.Errorf("start the cluster %s: %w", c.Name, err)
	}
	if err := c.launch(ctx); err != nil {
		return fmt.Errorf("start the cluster %s: %w", c.Name, errors.Join(err, Down(c.Dir, true)))
	}
	return nil
}

// prepare builds the programs and makes the cluster's folder anew.
func (c *Config) prepare(ctx context.Context) (err error) {
	c.Kubernetes, err = control.Programs(ctx, "kubernetes", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
	if err != nil {
		return err
	}
	if c.Sidecars {
		if _, err := control.Programs(ctx, "sidecars"); err != nil {
			return err
		}
	}
	if c.Machines > 0 {
		if c.Launcher, err = testbed.FindLauncher(ctx); err != nil {
			return err
		}
	}
	if err := Down(c.Dir, false); err != nil {
		return err
	}
	return os.MkdirAll(c.path("control"), 0o755)
}

// launch starts the cluster's first process and waits for its report.
func (c *Config) launch(ctx context.Context) error {
	door, err := c.makeDoor()
	if err != nil {
		return err
	}
	defer door.Close()
	if err := writeJSON(c.configPath(), c); err != nil {
		return err
	}
	log, err := os.Create(c.path("cluster.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	report, reporter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	cmd := exec.Command(c.Program, "run", c.Dir)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{door, reporter}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
	}
	err = cmd.Start()
	if err := errors.Join(err, reporter.Close()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = report.Close() }) // the read ends with an error
	defer stop()
	said, err := io.ReadAll(report)
	if err != nil || strings.TrimSpace(string(said)) != readyWord {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		return errors.Join(context.Cause(ctx), err, fmt.Errorf("it said %q; the logs are in %s", said, c.Dir))
	}
	return cmd.Process.Release()
}

// makeDoor listens at a free port of the loopback address, which becomes LocalPort.
func (c *Config) makeDoor() (*os.File, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("listen at 127.0.0.1: got the address %s", listener.Addr())
	}
	c.LocalPort = address.Port
	return listener.File()
}

// noteState writes, before anything else is started, what Down needs to find this cluster. /proc is still this machine's here.
func (c Config) noteState() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return fmt.Errorf("find the number of this process: /proc/self is %q", self)
	}
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return writeJSON(c.statePath(), state{PID: pid, Started: started})
}

// startTime gives when a process began: field 22 of its stat (proc_pid_stat(5)).
func startTime(pid int) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses, which may hold anything.
	_, rest, _ := strings.Cut(string(content[strings.LastIndexByte(string(content), ')'):]), " ")
	fields := strings.Fields(rest)
	const third, started = 3, 22
	if len(fields) <= started-third {
		return "", fmt.Errorf("read when process %d began: %q has too few fields", pid, content)
	}
	return fields[started-third], nil
}

// running gives the process of the cluster in a folder, or 0.
func running(dir string) (int, error) {
	var s state
	err := readJSON(Config{Dir: dir}.statePath(), &s)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	started, err := startTime(s.PID)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && started != s.Started {
		return 0, nil
	}
	return s.PID, err
}

// Down ends the cluster in a folder and removes all that it left. Where there is none, that is success. keepLogs leaves the
// folder, for a look at what went wrong.
func Down(dir string, keepLogs bool) error {
	if err := down(dir, keepLogs); err != nil {
		return fmt.Errorf("end the cluster in %s: %w", dir, err)
	}
	return nil
}

func down(dir string, keepLogs bool) error {
	pid, err := running(dir)
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := killAndWait(pid); err != nil {
			return err
		}
	}
	var c Config
	err = readJSON(Config{Dir: dir}.configPath(), &c)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever started there
	}
	if err != nil {
		return err
	}
	// Loop devices are this machine's, and outlive the mounts of a cluster that was killed.
	errs := []error{harness.DetachUnder(dir)}
	for _, m := range c.members() {
		errs = append(errs, node.RemoveCgroups(c.cgroup(m)))
	}
	errs = append(errs, node.RemoveCgroups(filepath.Dir(c.cgroup(&member{}))))
	if err := errors.Join(errs...); err != nil || keepLogs {
		return err
	}
	return os.RemoveAll(dir)
}

// killAndWait kills a cluster's first process and returns when the whole cluster is gone: the kernel lets the first process end
// after all others.
func killAndWait(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	process := os.NewFile(uintptr(fd), "process")
	defer process.Close()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endLimit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("process %d has not ended %s after SIGKILL", pid, endLimit)
		default:
			return nil
		}
	}
}
