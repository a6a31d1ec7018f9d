// Command vm runs one program in a throw-away machine with a real storage kernel. It is made for go test's
// -exec and is started by the script test/testbed/vm. The same program is the first process in the machine.
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// Exit codes beside the program's own.
const (
	exitUsage     = 2
	exitTimeLimit = 124 // as timeout(1) has it
	exitMachine   = 125 // the machine failed, or its kernel did
)

func main() {
	testbed.RunFirstProcess(os.Args) // never returns in the machine
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	o, err := parse(os.Args[1:], os.Environ())
	if help := helpError(""); errors.As(err, &help) {
		fmt.Print(help)
		return 0
	}
	if err != nil {
		return complain(exitUsage, err)
	}
	if err := o.complete(); err != nil {
		return complain(exitUsage, err)
	}
	if o.config.Launcher, err = os.Executable(); err != nil {
		return complain(exitMachine, err)
	}
	machine, err := testbed.NewMachine(ctx, o.config)
	if err != nil {
		return complain(exitMachine, err)
	}
	code, err := o.boot(ctx, machine)
	if err := errors.Join(err, machine.Close()); err != nil {
		if errors.Is(err, testbed.ErrTimeLimit) {
			return complain(exitTimeLimit, err)
		}
		return complain(exitMachine, err)
	}
	return code
}

// boot runs the program and shows the kernel's messages when anything went wrong.
func (o options) boot(ctx context.Context, machine *testbed.Machine) (int, error) {
	r, err := machine.Boot(ctx, o.command)
	if err != nil {
		return -1, err
	}
	code, err := r.Wait(context.WithoutCancel(ctx)) // when ctx ends the machine does, and this with it
	if code == 0 && err == nil {
		return 0, nil
	}
	fmt.Fprintf(os.Stderr, "vm: kernel messages of %s:\n%s\n", machine.Name(), last(strings.TrimSpace(testbed.SinceUp(r.Kernel.String())), 200))
	return code, err
}

// complete finds the program and the folders that it needs.
func (o *options) complete() error {
	program, err := exec.LookPath(o.command.Path)
	if err != nil {
		return err
	}
	if o.command.Path, err = filepath.Abs(program); err != nil {
		return err
	}
	if err := refuseRace(o.command.Path); err != nil {
		return err
	}
	if o.command.Dir, err = os.Getwd(); err != nil {
		return err
	}
	o.command.Stdout, o.command.Stderr = os.Stdout, os.Stderr
	o.config.Shares = append(o.config.Shares, moduleRoot(o.command.Dir))
	return nil
}

// refuseRace tells of Go programs that can't run in a machine: the race detector wants addresses that its kernel
// doesn't have.
func refuseRace(program string) error {
	info, err := buildinfo.ReadFile(program)
	for i := 0; err == nil && i < len(info.Settings); i++ { // an error means that it is not a Go program
		if info.Settings[i].Key == "-race" && info.Settings[i].Value == "true" {
			return fmt.Errorf("%s is built with the race detector, which does not run in a machine: build it without -race", program)
		}
	}
	return nil
}

// moduleRoot gives the folder with the go.mod that dir belongs to, else dir.
func moduleRoot(dir string) string {
	for parent := dir; ; parent = filepath.Dir(parent) {
		if _, err := os.Stat(filepath.Join(parent, "go.mod")); err == nil {
			return parent
		}
		if parent == filepath.Dir(parent) {
			return dir
		}
	}
}

func complain(code int, err error) int {
	fmt.Fprintf(os.Stderr, "vm: %v\n", err)
	return code
}

// last gives the last n lines of text.
func last(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
