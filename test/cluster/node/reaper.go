package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper collects the ends of all children, those that it started and those that became orphans: containers' shims and what they
// leave.
type reaper struct {
	mu    sync.Mutex
	exits map[int]chan unix.WaitStatus // of those it started, by process ID
}

// reap collects until there is no child left.
func (r *reaper) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return
		}
		r.mu.Lock()
		if ended, ours := r.exits[pid]; ours {
			ended <- status // has room for it
			delete(r.exits, pid)
		}
		r.mu.Unlock()
	}
}

// start runs a program whose output is added to a log, and gives where its end will be told.
func (r *reaper) start(log, program string, args ...string) (<-chan unix.WaitStatus, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	none, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer none.Close()
	// The reaper must know the process before it can end.
	r.mu.Lock()
	defer r.mu.Unlock()
	process, err := os.StartProcess(path, append([]string{program}, args...), &os.ProcAttr{
		Files: []*os.File{none, out, out}, Env: os.Environ(), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	ended := make(chan unix.WaitStatus, 1)
	r.exits[process.Pid] = ended
	return ended, process.Release()
}

// service is a program that is started again when it ends, so that a test may kill it.
type service struct {
	log, program string
	args         []string
	began        time.Time
	ended        <-chan unix.WaitStatus
}

func (s *service) start(r *reaper) (err error) {
	s.began = time.Now()
	s.ended, err = r.start(s.log, s.program, s.args...)
	return err
}

// again starts a service that ended. One that ends right after its start is an error.
func (s *service) again(r *reaper, status unix.WaitStatus) error {
	how := fmt.Sprintf("exit code %d", status.ExitStatus())
	if status.Signaled() {
		how = status.Signal().String()
	}
	ran := time.Since(s.began).Round(time.Millisecond)
	if ran < briefly {
		return fmt.Errorf("%s ended %s after its start (%s); %s says why", s.program, ran, how, s.log)
	}
	fmt.Fprintf(os.Stderr, "%s ended after %s (%s); starting it again\n", s.program, ran, how)
	return s.start(r)
}
