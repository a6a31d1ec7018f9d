package testbed

import (
	"context"
	"errors"
	"fmt"
)

// WaitUp waits until the machine is set up and its command starts.
func (r *Run) WaitUp(ctx context.Context) error {
	select {
	case <-r.up:
		return nil
	case <-r.done:
		select {
		case <-r.up: // it was up, and has ended since
			return nil
		default:
			return r.err
		}
	case <-ctx.Done():
		return fmt.Errorf("wait for machine %s to be up: %w", r.name, context.Cause(ctx))
	}
}

// WaitLine waits for a line on the command's standard output that contains text, and gives the line. A line
// is looked at once: the next call goes on behind it. It is an error when the machine ends without one.
func (r *Run) WaitLine(ctx context.Context, text string) (string, error) {
	line, err := r.Stdout.waitLine(ctx, text)
	if errors.Is(err, errEnded) {
		code, runErr := r.Wait(ctx)
		err = errors.Join(fmt.Errorf("it has ended, exit code %d", code), runErr)
	}
	if err != nil {
		return "", fmt.Errorf("wait for %q from machine %s: %w; its last words:\n%s%s",
			text, r.name, err, r.Stdout.tail(), r.Stderr.tail())
	}
	return line, nil
}

// Wait waits until the machine is off and no process of it is left. It gives the command's exit code (128 + N
// if signal N killed it), or -1 where the machine ended before the command did. The error says what was wrong
// with the machine: one of the Err values of this package. A command that fails is no error here.
func (r *Run) Wait(ctx context.Context) (int, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for the end of machine %s: %w", r.name, context.Cause(ctx))
	}
	if r.exitCode == nil {
		return -1, r.err
	}
	return *r.exitCode, r.err
}

// PowerCut ends the machine as a power cut does: what it had not yet written to its disks is lost. When
// PowerCut returns no process of the machine is left and its disks are free. After the end it does nothing.
func (r *Run) PowerCut() {
	r.stop(ErrPowerCut)
	<-r.done // SIGKILL is on its way: bounded by the host's kernel
}

func (r *Run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
