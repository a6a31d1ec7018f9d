package command_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

func TestDeadlineEndsTheRun(t *testing.T) {
	var seen observed
	run := command.New(seen.config())
	began := time.Now()
	_, err := run.Run(deadline(t, time.Second), command.Cmd{Tool: "sleep", Args: []string{"1000"}})
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("Run returned %v after its start", took)
	}
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "sleep was killed after ") {
		t.Errorf("got %v", err)
	}
	if _, ok := command.ExitCode(err); ok {
		t.Error("what was killed has no exit code")
	}
	if run.Stuck() != 0 || !slices.Equal(seen.results, []string{"sleep timeout"}) {
		t.Errorf("%d stuck, observed %q", run.Stuck(), seen.results)
	}
}

func TestTheEndOfTheContextKillsTheWholeGroup(t *testing.T) {
	ready := fifo(t)
	ctx, cancel := context.WithCancel(t.Context())
	grandchild := make(chan int, 1)
	go func() {
		defer cancel()
		grandchild <- readPID(t, ready)
	}()
	// Both ignore what can be ignored, and hold the output open.
	path := tool(t, `trap '' TERM INT HUP; sh -c 'trap "" TERM INT HUP; echo $$ >`+ready+`; while :; do sleep 100; done' & wait; wait`)
	_, err := command.New(command.Config{}).Run(ctx, command.Cmd{Tool: path})
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	awaitEnd(t, <-grandchild)
}

func TestWhatAToolLeavesBehindEndsWithIt(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	out, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{
		Tool: tool(t, `sleep 100 & echo $! >`+pids+`; echo done`),
	})
	if err != nil || string(out) != "done\n" {
		t.Errorf("got %q, %v", out, err)
	}
	awaitEnd(t, readPID(t, pids))
}

func TestADaemonThatHoldsTheOutputDelaysNobody(t *testing.T) {
	ready := fifo(t)
	began := time.Now()
	out, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{
		Tool: tool(t, `setsid sh -c 'echo $$ >`+ready+`; exec sleep 100' & read pid <`+ready+`; echo $pid`),
	})
	if took := time.Since(began); err != nil || took > time.Minute {
		t.Fatalf("got %q, %v after %v", out, err, took)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("a daemon in a session of its own was ended: %v", err)
	}
	awaitEnd(t, pid)
}

func TestAToolDiesWithTheDriver(t *testing.T) {
	if pids := os.Getenv("COMMAND_TEST_DRIVER"); pids != "" {
		_, _ = command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: "sh", Args: []string{"-c", "echo $$ >" + pids + "; exec sleep 100"}})
		return
	}
	pids := fifo(t)
	driver := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAToolDiesWithTheDriver$")
	driver.Env = append(os.Environ(), "COMMAND_TEST_DRIVER="+pids)
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	pid := readPID(t, pids)
	if err := driver.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = driver.Wait()
	awaitEnd(t, pid)
}

// frozen mounts a file system and freezes it: whoever writes to it waits in the kernel, where no signal
// reaches him, until thaw is called.
func frozen(t *testing.T) (dir string, thaw func()) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	dir = t.TempDir()
	for _, c := range [][]string{
		{"truncate", "-s", "16M", image},
		{"mke2fs", "-q", "-F", image},
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	const fifreeze, fithaw = 0xc0045877, 0xc0045878 // linux/fs.h
	if err := unix.IoctlSetInt(fd, fifreeze, 0); err != nil {
		t.Fatal(err)
	}
	thawed := false
	thaw = func() {
		if thawed {
			return
		}
		thawed = true
		if err := unix.IoctlSetInt(fd, fithaw, 0); err != nil {
			t.Errorf("thaw: %v", err)
		}
	}
	t.Cleanup(thaw)
	return dir, thaw
}

// none waits until nothing is stuck any more.
func none(t *testing.T, run *command.Runner) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); run.Stuck() > 0; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%d are still stuck", run.Stuck())
		}
	}
}

func TestAChildHeldByTheKernelHoldsNobodyElse(t *testing.T) {
	dir, thaw := frozen(t)
	run := command.New(command.Config{})
	writer := command.Cmd{Tool: "sh", Args: []string{"-c", "echo x >" + dir + "/file"}}
	// On a busy machine a tool may be killed before it came as far as to be stuck: another follows.
	for end := time.Now().Add(time.Minute); run.Stuck() < 3 && time.Now().Before(end); {
		before := run.Stuck()
		_, err := run.Run(deadline(t, 100*time.Millisecond), writer) // returns though the process doesn't end
		if !fault.Is(err, fault.Unavailable) {
			t.Fatalf("got %v", err)
		}
		if held := strings.Contains(err.Error(), "the kernel still holds the process"); held != (run.Stuck() > before) {
			t.Errorf("%d stuck, %v", run.Stuck(), err)
		}
	}
	if run.Stuck() != 3 {
		t.Errorf("%d stuck", run.Stuck())
	}
	if _, err := run.Run(t.Context(), command.Cmd{Tool: "true"}); err != nil {
		t.Error(err)
	}
	thaw()
	none(t, run)
}

func TestStuckRunsOfOneToolAreBounded(t *testing.T) {
	dir, thaw := frozen(t)
	var seen observed
	run := command.New(seen.config())
	writer := command.Cmd{Tool: "sh", Args: []string{"-c", "echo x >" + dir + "/file"}}
	// On a busy machine a tool may be killed before it came as far as to be stuck: others follow.
	for end := time.Now().Add(time.Minute); run.Stuck() < command.MaxStuck; {
		if time.Now().After(end) {
			t.Fatalf("only %d are stuck", run.Stuck())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		var runs sync.WaitGroup
		for range command.MaxStuck - run.Stuck() {
			runs.Go(func() { _, _ = run.Run(ctx, writer) }) // how each ends is no matter
		}
		runs.Wait()
		cancel()
	}
	_, err := run.Run(t.Context(), writer)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "32 earlier runs") {
		t.Errorf("%d stuck, %v", run.Stuck(), err)
	}
	if _, err := run.Run(t.Context(), command.Cmd{Tool: "true"}); err != nil {
		t.Errorf("another tool must go on: %v", err)
	}
	thaw()
	none(t, run)
	if _, err := run.Run(t.Context(), writer); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestAwait(t *testing.T) {
	run := command.New(command.Config{})
	got, err := command.Await(t.Context(), run, "ask", func(context.Context) (int, error) { return 5, nil })
	if err != nil || got != 5 {
		t.Errorf("got %d, %v", got, err)
	}
	want := errors.New("no")
	if _, err := command.Await(t.Context(), run, "ask", func(context.Context) (int, error) { return 0, want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	release := make(chan struct{})
	for range command.MaxStuck {
		ctx, cancel := context.WithCancel(t.Context())
		_, err = command.Await(ctx, run, "block", func(context.Context) (int, error) {
			cancel()
			<-release
			return 1, nil
		})
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if run.Stuck() >= 2 {
			break // the bound is the same as that of tools
		}
	}
	if run.Stuck() != 2 {
		t.Errorf("%d stuck", run.Stuck())
	}
	close(release)
	none(t, run)
}
