package harness

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// passing is how long what keeps a mount busy may take to pass by itself.
const passing = 5 * time.Second

// Unmount takes the topmost mount off a path. It outlasts what holds it for a moment: a program that is being started has all
// that its parent has open, from fork(2) to execve(2). What is in use for longer is EBUSY.
func Unmount(path string) error {
	var last error
	_ = Eventually(context.Background(), passing, func() error {
		last = unix.Unmount(path, 0)
		if errors.Is(last, unix.EBUSY) {
			return last
		}
		return nil
	})
	return last
}
