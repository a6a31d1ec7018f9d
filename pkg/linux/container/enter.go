package container

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	self = "/proc/self/ns/mnt"
	host = "/proc/1/ns/mnt"
	// program is this one, whatever mount namespace it is looked up in.
	program = "/proc/self/exe"
	// signalled is added to a signal's number to make an exit code of it, as shells do.
	signalled = 128
)

// Enter runs this program again, with the same arguments, in the mount namespace of process 1, and returns its exit code when it has
// ended. Signals that ask for an end are passed on to it; it dies with this process.
func Enter() (int, error) {
	namespace, err := hostNamespace()
	if err != nil {
		return 0, err
	}
	defer func() { _ = namespace.Close() }() // nothing was written
	folders, value, err := folders()
	if err != nil {
		return 0, err
	}
	attributes := &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), marker+"="+value), Files: append([]*os.File{os.Stdin, os.Stdout, os.Stderr}, folders...),
		Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	started, ended := make(chan child, 1), make(chan end, 1)
	go run(attributes, int(namespace.Fd()), started, ended)
	c := <-started
	if c.err != nil {
		return 0, fault.New(fault.Unavailable, "run in the host's mount namespace: %w", c.err)
	}
	for {
		select {
		case s := <-signals:
			_ = c.process.Signal(s) // it may have ended just now
		case e := <-ended:
			return e.code()
		}
	}
}

// child is the program on the host, once it runs; end is how it ended.
type (
	child struct {
		process *os.Process
		err     error
	}
	end struct {
		state *os.ProcessState
		err   error
	}
)

// run starts the child from a thread in the host's mount namespace and waits for its end. The thread is never used for anything
// else: it ends with this goroutine, and not before the child, whose parent it is to the kernel.
func run(attributes *os.ProcAttr, namespace int, started chan<- child, ended chan<- end) {
	runtime.LockOSThread()
	var c child
	if c.err = unix.Unshare(unix.CLONE_FS); c.err == nil {
		c.err = unix.Setns(namespace, unix.CLONE_NEWNS)
	}
	if c.err == nil {
		c.process, c.err = os.StartProcess(program, os.Args, attributes)
	}
	started <- c
	if c.err == nil {
		var e end
		e.state, e.err = c.process.Wait()
		ended <- e
	}
}

// code is the child's exit code.
func (e end) code() (int, error) {
	if e.err != nil {
		return 0, fault.New(fault.Internal, "wait for the process in the host's mount namespace: %w", e.err)
	}
	if status, ok := e.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return signalled + int(status.Signal()), nil
	}
	return e.state.ExitCode(), nil
}

// hostNamespace opens the mount namespace of process 1, which must be another than this process's.
func hostNamespace() (*os.File, error) {
	var mine, its unix.Stat_t
	if err := unix.Stat(self, &mine); err != nil {
		return nil, fault.New(fault.Internal, "examine %s: %w", self, err)
	}
	f, err := os.Open(host)
	if err != nil {
		return nil, fault.New(fault.Precondition, "open the host's mount namespace: the container must be privileged and have the host's "+
			"processes (hostPID): %w", err)
	}
	if err := unix.Fstat(int(f.Fd()), &its); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if mine.Dev == its.Dev && mine.Ino == its.Ino {
		return nil, errors.Join(f.Close(), fault.New(fault.Precondition, "process 1 has the mount namespace of this process: on a host itself "+
			"--enter-host is not needed, and a container must have the host's processes (hostPID)"))
	}
	return f, nil
}

// folders opens what the child keeps of the container.
func folders() ([]*os.File, string, error) {
	root, err := openFolder("/")
	if err != nil {
		return nil, "", err
	}
	mounts, err := os.Open(self)
	if err != nil {
		return nil, "", err
	}
	account, err := openFolder(accountDir)
	if errors.Is(err, fs.ErrNotExist) {
		return []*os.File{root, mounts}, plain, nil
	}
	return []*os.File{root, mounts, account}, withAccount, err
}

func openFolder(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
