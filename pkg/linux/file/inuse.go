package file

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// InUse tells whether anybody else has an open regular file open too: a process, or a loop device for its
// image. It asks for a lease on the file, which only a file's sole opener is given (fcntl(2), F_SETLEASE), and
// gives it back.
func InUse(f *os.File) (bool, error) {
	err := setLease(f, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) {
		return true, nil
	}
	if err == nil {
		err = setLease(f, unix.F_UNLCK)
	}
	return false, failed("ask who uses", f.Name(), err)
}

// AwaitUnused waits until nobody else has a regular file open, as InUse tells, and looks again whenever
// somebody closes it (inotify(7)). It returns the context's error where that ends first.
func AwaitUnused(ctx context.Context, f *os.File) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return failed("watch", f.Name(), err)
	}
	events := os.NewFile(uintptr(fd), "events of "+f.Name())
	defer release(events)
	if _, err := unix.InotifyAddWatch(fd, PathForTool(f), unix.IN_CLOSE); err != nil {
		return failed("watch", f.Name(), err)
	}
	// A deadline in the past ends a read that waits.
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })()
	buffer := make([]byte, 4096)
	for {
		used, err := InUse(f)
		if err != nil || !used {
			return err
		}
		if _, err := events.Read(buffer); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return failed("wait for the users of", f.Name(), err)
		}
	}
}
