package pid1

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// runCommand runs the order's command to its end and gives its exit code, reaping what it leaves to
// process 1 meanwhile.
func runCommand(o order.Order) (int, error) {
	stdout, err := openLine(order.StdoutLine)
	if err != nil {
		return 0, err
	}
	stderr, err := openLine(order.StderrLine)
	if err != nil {
		return 0, err
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	child, err := os.StartProcess(o.Program, o.Argv, &os.ProcAttr{
		Dir: o.Dir, Env: o.Env,
		Files: []*os.File{stdin, stdout, stderr},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s in %s: %w", o.Program, o.Dir, err)
	}
	code, err := reapUntil(child.Pid)
	return code, errors.Join(err, drain(stdout), drain(stderr))
}

func reapUntil(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		reaped, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case reaped != pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// openLine opens a serial line for writing, and makes it pass each byte as it is.
func openLine(path string) (*os.File, error) {
	line, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("get the settings of %s: %w", path, err)
	}
	settings.Oflag &^= unix.OPOST
	settings.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, settings); err != nil {
		return nil, fmt.Errorf("set %s to raw: %w", path, err)
	}
	return line, nil
}

// drain waits until the host has all that was written to line.
func drain(line *os.File) error {
	if err := unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1); err != nil {
		return fmt.Errorf("drain %s: %w", line.Name(), err)
	}
	return nil
}
