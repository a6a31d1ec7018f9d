package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// StartLimit is how long a driver may take until it is ready.
	StartLimit = time.Minute
	// stopLimit is how long a driver may take to end after SIGTERM.
	stopLimit = time.Minute
)

// Options say how a driver is run. Zero values are filled in.
type Options struct {
	Datastores        []Datastore
	Dir               string // for all of the driver's files; default: one of the test's
	Log               string // where it writes what it says; default: a file in Dir
	Host, ClusterID   string
	NoClusterID       bool // leaves the cluster's ID to the driver
	MaxVolumesPerNode int
	Metrics           bool
	// Await are datastores for which a start waits, as long as it would for a driver: one that opens a volume group serves all else
	// meanwhile. That they don't come is no error of the start.
	Await []string
	// Program is run as the driver, with Env added to the environment and Files as descriptors 3 and up. Default: the
	// driver's binary.
	Program string
	Env     []string
	Files   []*os.File
}

// Driver is a driver that runs as a process of its own.
type Driver struct {
	*Client
	Options
	// Socket, StateDir, MountDir and File are the driver's endpoint, state folder, folder of mounts and file of datastores.
	Socket, StateDir, MountDir, File string

	metrics string // address, or ""
	log     string
	mu      sync.Mutex
	process *process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended
	err  error         // of Wait
}

// StartDriver runs a driver and waits until it is ready. It is stopped when the test ends, and its log shown if the test
// failed.
func StartDriver(t testing.TB, o Options) *Driver {
	t.Helper()
	d := NewDriver(t, o)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// NewDriver prepares a driver that doesn't run yet.
func NewDriver(t testing.TB, o Options) *Driver {
	t.Helper()
	if o.Dir == "" {
		o.Dir = Dir(t)
	}
	if o.Program == "" {
		o.Program = Binary(t)
	}
	d, err := PrepareDriver(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.end(t) })
	return d
}

// PrepareDriver is NewDriver for a program that is no test: folder and program must be given, and the caller stops it.
func PrepareDriver(o Options) (*Driver, error) {
	if o.Host == "" {
		o.Host = "host-1"
	}
	if o.ClusterID == "" {
		o.ClusterID = "cluster-1"
	}
	d := &Driver{
		Options: o, Socket: filepath.Join(o.Dir, "csi.sock"), StateDir: filepath.Join(o.Dir, "state"),
		MountDir: filepath.Join(o.Dir, "mounts"), File: filepath.Join(o.Dir, "datastores.yaml"), log: cmp.Or(o.Log, filepath.Join(o.Dir, "driver.log")),
	}
	if o.Metrics {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		d.metrics = address
	}
	if err := d.SetDatastores(o.Datastores...); err != nil {
		return nil, err
	}
	client, err := Dial(d.Socket)
	d.Client = client
	return d, err
}

// SetDatastores replaces the file of datastores; a driver that runs will notice.
func (d *Driver) SetDatastores(datastores ...Datastore) error {
	text, err := Documents(datastores...)
	if err != nil {
		return err
	}
	d.Datastores = datastores
	return d.SetFile(text)
}

// SetFile replaces the file of datastores by any content.
func (d *Driver) SetFile(content []byte) error { return replaceFile(d.File, content) }

// Args are the driver's command line.
func (d *Driver) Args() []string {
	args := []string{
		"standalone", "--endpoint", "unix://" + d.Socket, "--datastores", d.File,
		"--state-dir", d.StateDir, "--mount-dir", d.MountDir, "--host", d.Host,
	}
	if !d.NoClusterID {
		args = append(args, "--cluster-id", d.ClusterID)
	}
	if d.MaxVolumesPerNode > 0 {
		args = append(args, "--max-volumes-per-node", strconv.Itoa(d.MaxVolumesPerNode))
	}
	if d.metrics != "" {
		args = append(args, "--metrics-address", d.metrics)
	}
	return args
}

// Start runs the driver and waits until it is ready.
func (d *Driver) Start(ctx context.Context) error {
	p, err := d.run()
	if err != nil {
		return fmt.Errorf("start the driver: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, StartLimit)
	defer cancel()
	go func() { // a driver that ends will never be ready
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.Ready(ctx); err != nil {
		return fmt.Errorf("the driver doesn't get ready: %w\n%s", err, d.Log())
	}
	for _, name := range d.Await {
		_ = Eventually(ctx, StartLimit, func() error { // see Await
			bytes, err := d.Available(ctx, name)
			if err == nil && bytes <= 0 {
				err = errors.New("it isn't open, or full")
			}
			return err
		})
	}
	return nil
}

// RunToEnd runs a driver that must end by itself, and gives its exit code and what it said.
func (d *Driver) RunToEnd() (code int, log string, err error) {
	p, err := d.run()
	if err != nil {
		return 0, "", err
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), d.Log(), nil
	case <-time.After(StartLimit):
		return 0, d.Log(), errors.Join(errors.New("the driver goes on running"), d.Kill())
	}
}

func (d *Driver) run() (*process, error) {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(d.Program, d.Args()...)
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, d.Files
	p := &process{cmd: cmd, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.process = p
	return p, nil
}

func (d *Driver) current() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.process
}

// Running tells whether the driver's process is alive.
func (d *Driver) Running() bool {
	p := d.current()
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Ended is closed when the driver's present process has ended.
func (d *Driver) Ended() <-chan struct{} { return d.current().done }

// PID of the driver's process.
func (d *Driver) PID() int { return d.current().cmd.Process.Pid }

// Stop ends the driver as an administrator does, and waits for it: it must end in time with exit code 0.
func (d *Driver) Stop() error {
	if !d.Running() {
		return errors.New("the driver has ended already: " + d.tail(5))
	}
	p := d.current()
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the driver still runs %v after SIGTERM", stopLimit), d.Kill())
	}
	if p.err != nil {
		return fmt.Errorf("the driver after SIGTERM: %w: %s", p.err, d.tail(5))
	}
	return nil
}

// Kill ends the driver by SIGKILL and waits until it is gone.
func (d *Driver) Kill() error {
	p := d.current()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
		return errors.New("the driver is stuck in the kernel: SIGKILL doesn't end it")
	}
}

// Restart stops and starts the driver.
func (d *Driver) Restart(ctx context.Context) error { return errors.Join(d.Stop(), d.Start(ctx)) }

// Crash kills and starts the driver.
func (d *Driver) Crash(ctx context.Context) error { return errors.Join(d.Kill(), d.Start(ctx)) }

// StageRecords is the folder of what the driver remembers of staged volumes.
func (d *Driver) StageRecords() string { return filepath.Join(d.StateDir, "stage") }

// Log is all that the driver's processes said.
func (d *Driver) Log() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (d *Driver) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(d.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// notable are the last lines of the log that aren't about a call: those the client knows.
func (d *Driver) notable(lines int) string {
	var all []string
	for line := range strings.Lines(d.Log()) {
		if !strings.Contains(line, `"Served"`) {
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// end is what happens when the test is over.
func (d *Driver) end(t testing.TB) {
	if d.Running() {
		if err := d.Stop(); err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
	if t.Failed() {
		t.Logf("the last calls:\n%s\nthe driver's log, without calls:\n%s", d.Calls(40), d.notable(80))
	}
	if err := errors.Join(d.Close(), UnmountUnder(d.MountDir)); err != nil { // its mounts outlive the driver
		t.Error(err)
	}
}
