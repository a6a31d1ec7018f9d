package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// reviveLimit is how long a driver may take until it serves again.
const reviveLimit = 2 * time.Minute

// reaper kills the driver and the tools that it runs, again and again, and starts it anew.
type reaper struct {
	driver *crash.Driver
	// library and shipped are the two programs that can be the driver: the test's own, which dies where it is told to, and the
	// real one, which is killed when the time has come.
	library, shipped []string // program, environment
	random           *rand.Rand
	deaths, tools    int

	mu    sync.Mutex
	epoch int           // raised at each death and each kill
	up    chan struct{} // closed while the driver serves
}

func newReaper(d *crash.Driver, shipped string, random *rand.Rand) *reaper {
	r := &reaper{
		driver: d, shipped: []string{shipped}, library: append([]string{d.Program}, d.Env...),
		random: random, up: make(chan struct{}),
	}
	return r
}

// begin waits until the driver serves, and returns what disturbed wants to know.
func (r *reaper) begin(ctx context.Context) (epoch int, err error) {
	r.mu.Lock()
	up, epoch := r.up, r.epoch
	r.mu.Unlock()
	select {
	case <-up:
		return epoch, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// disturbed tells whether anything was killed since a call began that ended so.
func (r *reaper) disturbed(since int, err error) bool {
	now := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.epoch != since
	}
	if status.Code(err) != codes.Unavailable || now() {
		return now()
	}
	// The connection breaks before the process is gone. A driver that answers was alive.
	ctx, cancel := context.WithTimeout(context.Background(), reviveLimit)
	defer cancel()
	ended := r.driver.Ended()
	probe := make(chan error, 1)
	go func() { probe <- r.driver.Ready(ctx) }()
	select {
	case <-ended:
		return true
	case <-probe:
		return now() || !r.driver.Running()
	}
}

func (r *reaper) raise(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	if down {
		select {
		case <-r.up:
			r.up = make(chan struct{})
		default: // down already
		}
	}
}

// start runs the driver until it serves; at is the point at which it dies, 0: none. It may die before it serves.
func (r *reaper) start(ctx context.Context, program []string, at int) error {
	r.driver.Program, r.driver.Env = program[0], program[1:]
	if at > 0 {
		r.driver.Env = append(r.driver.Env[:len(r.driver.Env):len(r.driver.Env)], crash.DiesAt(at))
	}
	if err := r.driver.Start(ctx); err != nil {
		return err
	}
	err := harness.Eventually(ctx, reviveLimit, func() error {
		if !r.driver.Running() {
			return nil
		}
		bytes, err := r.driver.Available(ctx, pool)
		if err == nil && bytes == 0 {
			err = errors.New("the pool has no room or isn't open")
		}
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.up)
	return nil
}

// calm starts the driver where it doesn't run, and lets it live.
func (r *reaper) calm(ctx context.Context) error {
	for {
		if r.driver.Running() {
			if r.driver.Program != r.library[0] || r.driver.Arm(0) == nil {
				return nil
			}
			<-r.driver.Ended() // it was dying when it was disarmed
		}
		r.raise(true)
		if err := r.start(ctx, r.library, 0); err != nil {
			return err
		}
	}
}

// rage kills until ctx ends; the driver may be down then. Nothing but a driver that doesn't come back is an error.
func (r *reaper) rage(ctx context.Context) error {
	for ctx.Err() == nil {
		program, at, after := r.library, 1+r.random.IntN(60), time.Duration(0)
		if r.random.IntN(2) == 0 {
			program, at, after = r.shipped, 0, time.Duration(5+r.random.IntN(300))*time.Millisecond
		}
		hunt := r.random.IntN(3) == 0
		if r.driver.Running() && at > 0 && r.driver.Program == program[0] {
			if err := r.driver.Arm(at); err != nil && r.driver.Running() {
				return fmt.Errorf("tell the driver when to die: %w", err)
			}
		} else {
			if err := r.driver.Kill(); err != nil {
				return err
			}
			r.raise(true)
			if err := r.start(context.WithoutCancel(ctx), program, at); err != nil && r.driver.Running() {
				return err
			}
		}
		if err := r.await(ctx, after, hunt); err != nil {
			return err
		}
	}
	return nil
}

// await lets a driver live until it dies, or until it is killed after a while.
func (r *reaper) await(ctx context.Context, after time.Duration, hunt bool) error {
	var end <-chan time.Time
	if after > 0 {
		timer := time.NewTimer(after)
		defer timer.Stop()
		end = timer.C
	}
	var look <-chan time.Time
	if hunt {
		ticker := time.NewTicker(400 * time.Microsecond)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.driver.Ended():
			r.raise(true)
			r.deaths++
			return nil
		case <-end:
			r.raise(true)
			r.deaths++
			return r.driver.Kill()
		case <-look:
			killed, err := r.killTool()
			if err != nil {
				return err
			}
			if killed {
				look = nil // one is enough for this life
			}
		}
	}
}

// killTool kills a child of the driver, where it has one.
func (r *reaper) killTool() (bool, error) {
	driver := r.driver.PID()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", driver))
	if err != nil {
		return false, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that ended
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return false, err
			}
			if r.killChild(pid, driver) {
				return true, nil
			}
		}
	}
	return false, nil
}

// killChild kills a process if it still is a child of that parent.
func (r *reaper) killChild(pid, parent int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // a handle
	// Read behind the handle: it is this process's, not one's that has its number by now.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
		return false
	}
	r.raise(false)
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	r.tools++
	return true
}
