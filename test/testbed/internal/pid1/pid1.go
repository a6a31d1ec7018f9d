// Package pid1 is the first process of a test machine: it makes the root file system whose changes vanish,
// sets the machine up as its [order.Order] says, runs one command and switches the machine off.
//
// It is a static Go program that uses system calls, not a script, because a fork and exec costs 20 ms in
// User-Mode Linux and a system call 16 us.
package pid1

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// syncLimit bounds the sync before power-off, which never returns while an NFS server is gone.
const syncLimit = 10 * time.Second

// Main never returns: the machine is off when it is done. folder is the machine's own, on the host.
func Main(folder string) {
	control, err := openLine(order.ControlLine)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testbed: %v\n", err) // the kernel's console is all that is left
		powerOff()
	}
	report := order.Report{}
	if code, err := run(folder, control); err != nil {
		report.Failed = err.Error()
	} else {
		report.Exit = &code
	}
	boundedSync()
	say(control, report)
	powerOff()
}

func run(folder string, control *os.File) (int, error) {
	o, err := order.Read(folder)
	if err != nil {
		return 0, err
	}
	if err := enterRoot(); err != nil {
		return 0, fmt.Errorf("make the root file system: %w", err)
	}
	if err := setUp(o); err != nil {
		return 0, err
	}
	if o.HungAfter > 0 {
		go watchHung(o.HungAfter)
	}
	kernelLog(order.UpMark)
	say(control, order.Report{Up: true})
	return runCommand(o)
}

func setUp(o order.Order) error {
	if err := mountSystem(); err != nil {
		return err
	}
	for _, share := range o.Shares {
		if err := mountShare(share); err != nil {
			return err
		}
	}
	// Service managers make the root shared, so mounts travel into containers: the driver must live with that.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the mounts shared: %w", err)
	}
	if err := nameMachine(o); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return loadModules(o.Modules)
}

func loadModules(modules []string) error {
	if len(modules) == 0 {
		return nil
	}
	// The machine's time limit bounds it.
	out, err := exec.CommandContext(context.Background(), "/sbin/modprobe", append([]string{"-a", "--"}, modules...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("load the kernel modules %q: %w: %s", modules, err, out)
	}
	return nil
}

// say writes a report and waits until the line has given it to the host.
func say(control *os.File, r order.Report) {
	_, err := fmt.Fprintln(control, r)
	if err := errors.Join(err, drain(control)); err != nil {
		kernelLog(fmt.Sprintf("testbed: report %q to the host: %v", r, err))
	}
}

func boundedSync() {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(syncLimit):
		kernelLog(fmt.Sprintf("testbed: sync has not ended after %s, switching off without", syncLimit))
	}
}

func powerOff() {
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	panic(fmt.Sprintf("testbed: power off: %v", err)) // the end of pid 1 is a kernel panic, which ends the machine too
}

// kernelLog adds a line to the kernel's log, which the host keeps.
func kernelLog(line string) {
	// Nothing is left to tell when even this fails.
	_ = os.WriteFile("/dev/kmsg", []byte("<4>"+line), 0)
}
