package command_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool writes a shell script into a new folder and returns its path.
func tool(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// deadline returns a context that ends after d.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// observed records what a Runner tells its observer.
type observed struct {
	mu      sync.Mutex
	results []string
}

func (o *observed) config() command.Config {
	return command.Config{Observe: func(tool, result string, took time.Duration) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if took < 0 {
			result = "negative time"
		}
		o.results = append(o.results, tool+" "+result)
	}}
}

// fifo makes a named pipe. Opening it for reading waits for a writer and the other way round, which is
// how a test and a script wait for each other.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitEnd returns when a process has ended, by the event of its pidfd.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	t.Fatalf("process %d is still there", pid)
}

// readPID reads a process ID that a script wrote into a named pipe or file.
func readPID(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Error(err)
	}
	return pid
}
