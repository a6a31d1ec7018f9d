package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// errStuck says that a device can't pass discards on any more, whatever it backs.
var errStuck = errors.New("the loop device kept a discard limit of 0 from an earlier use")

// discardLimits returns how much one discard may free, and how much the driver could do (bytes;
// Documentation/ABI/stable/sysfs-block).
func (m *Manager) discardLimits(number int) (limit, hardware uint64, err error) {
	if limit, err = readNumber(m.sysfs(number, "queue/discard_max_bytes")); err != nil {
		return 0, 0, err
	}
	hardware, err = readNumber(m.sysfs(number, "queue/discard_max_hw_bytes"))
	return limit, hardware, err
}

// restricted tells whether a device was made to refuse discards that it could pass on.
func (m *Manager) restricted(number int) (bool, error) {
	limit, hardware, err := m.discardLimits(number)
	return err == nil && limit == 0 && hardware > 0, err
}

// setDiscard lets an attached device pass discards on, or not.
func (m *Manager) setDiscard(ctx context.Context, n *node, discard bool) error {
	limit, hardware, err := m.discardLimits(n.number)
	if err != nil {
		return err
	}
	want := uint64(0)
	if discard {
		want = hardware
	}
	if limit == want {
		return nil
	}
	err = step.Do(ctx, fmt.Sprintf("loop: set discard limit of %s to %d", n.path, want), func() error {
		return writeNumber(m.sysfs(n.number, "queue/discard_max_bytes"), want)
	})
	if errors.Is(err, unix.EINVAL) && discard {
		return fmt.Errorf("%s: %w: %w", n.path, errStuck, err)
	}
	return err
}

// setWritable takes back a write protection (BLKROSET) that somebody left on a device which backs its
// image for writing: it outlives attachments.
func setWritable(ctx context.Context, n *node) error {
	ro, err := unix.IoctlGetInt(n.fd, unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("%s: BLKROGET: %w", n.path, err)
	}
	if ro == 0 {
		return nil
	}
	return step.Do(ctx, "loop: take the write protection off "+n.path, func() error {
		if err := unix.IoctlSetPointerInt(n.fd, unix.BLKROSET, 0); err != nil {
			return fmt.Errorf("%s: BLKROSET: %w", n.path, err)
		}
		return nil
	})
}

// loopControl makes a call to /dev/loop-control, which answers with a loop number (loop(4)).
func (m *Manager) loopControl(ctx context.Context, request uint, number int) (int, error) {
	fd, err := m.openControl(ctx)
	if err != nil {
		return 0, fault.New(fault.Unavailable, "this machine offers no loop devices, load the module (modprobe loop): %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	answer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(number))
	if errno != 0 {
		return 0, fmt.Errorf("loop-control: request %#x for %d: %w", request, number, errno)
	}
	return int(answer), nil
}

// openControl opens /dev/loop-control, making its node where /dev lacks it: character device 10:237
// (Documentation/admin-guide/devices.txt). Opening it loads the module.
func (m *Manager) openControl(ctx context.Context) (int, error) {
	path := filepath.Join(m.dev, "loop-control")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := makeNode(ctx, path, unix.S_IFCHR, 10, 237); err != nil {
			return -1, err
		}
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// readSysfs returns a short file of sysfs without the newline at its end, by three system calls, since
// there may be thousands to read. fs.ErrNotExist: its device is not there, or has just gone.
func readSysfs(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // only read
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if errors.Is(err, unix.ENODEV) {
		err = unix.ENOENT
	}
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// readNumber reads a number out of sysfs.
func readNumber(path string) (uint64, error) {
	s, err := readSysfs(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds %q, not a number", path, s)
	}
	return n, nil
}

// writeNumber writes a number into sysfs.
func writeNumber(path string, n uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.FormatUint(n, 10))
	return errors.Join(err, f.Close())
}
