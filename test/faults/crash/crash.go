// Package crash is a driver that dies by SIGKILL just before a chosen change of the world (pkg/step): the test binary itself, run
// again with the driver as a library in it. The shipped binary has no switch to crash.
//
// A test package that uses it begins its TestMain so:
//
//	if crash.Asked() {
//		os.Exit(crash.Run(os.Args))
//	}
package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/datastore-csi/datastore-csi/cmd/standalone"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Points says which changes are counted.
type Points string

// Changes on behalf of a volume or snapshot, or all of them.
const (
	ForVolumes Points = "volumes"
	AnyWork    Points = "any"
)

const (
	// driverVariable makes a test binary the driver.
	driverVariable = "DATASTORE_CSI_TEST_DRIVER"

	// answerLimit is how long a driver may take to answer an order. A busy machine may be slow, a dead driver says so at once.
	answerLimit = time.Minute

	// Descriptors of the driver, as harness.Options.Files gives them.
	ordersFD, answersFD = 3, 4
)

// Asked tells whether this process is to be the driver.
func Asked() bool { return os.Getenv(driverVariable) != "" }

// Run is the driver, with the command line of the shipped one: the library, and a hook that kills it where it is told to. It
// returns the exit code.
func Run(args []string) int {
	if err := serve(args[2:]); err != nil { // behind the name of the role
		fmt.Fprintln(os.Stderr, "driver:", err)
		return 1
	}
	return 0
}

func serve(args []string) error {
	var o standalone.Options
	flags := pflag.NewFlagSet("driver", pflag.ContinueOnError)
	o.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	d := &death{all: os.Getenv(driverVariable) == string(AnyWork), stops: make(chan string), goesOn: make(chan struct{})}
	o.Hook = d.hook
	if at, err := strconv.Atoi(os.Getenv(driverVariable + "_DIES_AT")); err == nil {
		d.at = at
	}
	go d.takeOrders(os.NewFile(ordersFD, "orders"), os.NewFile(answersFD, "answers"))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return standalone.Run(ctx, o)
}

// death counts points and kills the process at one of them.
type death struct {
	all bool // points of no volume count too

	mu   sync.Mutex
	at   int // 0: never
	seen []string
	// pause stops the driver at the point instead, until goOn is told.
	pause  bool
	stops  chan string
	goesOn chan struct{}
}

// hook is told of each change just before it is made.
func (d *death) hook(volume, what string) {
	if volume == "" && !d.all {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, what)
	if len(d.seen) == d.at && d.pause {
		d.mu.Unlock()
		d.stops <- what
		<-d.goesOn
		d.mu.Lock()
		return
	}
	if len(d.seen) == d.at {
		fmt.Fprintf(os.Stderr, "dying before point %d of %s: %s\n", d.at, volume, what)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the other threads follow
	}
}

// takeOrders answers to "arm N" (die at the N-th point from now; 0: never), "pause N" (stop at it), "stopped" (what it stopped
// before, once it did), "go" (on from there) and "points" (what was seen since).
func (d *death) takeOrders(orders, answers *os.File) {
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		var answer string
		switch word {
		case "stopped":
			select {
			case answer = <-d.stops:
			default:
			}
		case "go":
			d.goesOn <- struct{}{}
		default:
			answer = d.arm(word, number)
		}
		if _, err := fmt.Fprintln(answers, answer); err != nil {
			return // nobody listens any more
		}
	}
}

// arm obeys an order about points to come.
func (d *death) arm(word, number string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	answer := fmt.Sprintf("%q", d.seen)
	if word == "arm" || word == "pause" {
		d.seen, d.pause = nil, word == "pause"
		d.at, _ = strconv.Atoi(number) // written by Arm or Pause below
		answer = "armed"
	}
	return answer
}

// Driver is a driver that dies when it is told to.
type Driver struct {
	*harness.Driver
	orders, answers *os.File
	lines           *bufio.Reader
}

// New prepares such a driver; it doesn't run yet.
func New(t testing.TB, points Points, o harness.Options) *Driver {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fromUs, toDriver, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromDriver, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o.Program, o.Env, o.Files = self, append(o.Env, driverVariable+"="+string(points)), []*os.File{fromUs, toUs}
	d := &Driver{orders: toDriver, answers: fromDriver, lines: bufio.NewReader(fromDriver)}
	t.Cleanup(func() {
		if err := errors.Join(fromUs.Close(), toUs.Close(), toDriver.Close(), fromDriver.Close()); err != nil {
			t.Error(err)
		}
	})
	d.Driver = harness.NewDriver(t, o)
	return d
}

// DiesAt is a variable of the environment that makes a driver die at the n-th point after its start.
func DiesAt(n int) string { return fmt.Sprintf("%s_DIES_AT=%d", driverVariable, n) }

// Arm makes the driver that runs die at the n-th point from now; 0: never.
func (d *Driver) Arm(n int) error {
	answer, err := d.order(fmt.Sprintf("arm %d", n))
	if err == nil && answer != "armed" {
		err = fmt.Errorf("the driver answers %q", answer)
	}
	return err
}

// Pause makes the driver that runs stop before the n-th point from now.
func (d *Driver) Pause(n int) error {
	answer, err := d.order(fmt.Sprintf("pause %d", n))
	if err == nil && answer != "armed" {
		err = fmt.Errorf("the driver answers %q", answer)
	}
	return err
}

// Stopped tells before what change the driver stopped; "" is not yet.
func (d *Driver) Stopped() (string, error) { return d.order("stopped") }

// GoOn lets a driver that stopped go on.
func (d *Driver) GoOn() error {
	_, err := d.order("go")
	return err
}

// Points are what the driver was about to change since it was armed, in order.
func (d *Driver) Points() (int, string, error) {
	answer, err := d.order("points")
	return strings.Count(answer, `" "`) + min(1, strings.Count(answer, `"`)), answer, err
}

func (d *Driver) order(text string) (string, error) {
	if _, err := fmt.Fprintln(d.orders, text); err != nil {
		return "", err
	}
	if err := d.answers.SetReadDeadline(time.Now().Add(answerLimit)); err != nil {
		return "", err
	}
	answer, err := d.lines.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}
