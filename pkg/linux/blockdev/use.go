package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Held tells whether a block device is mounted, in any mount namespace, or held by device-mapper, md or swap: the kernel
// lets nobody else claim it then.
func Held(path string) (bool, error) {
	f, err := Open(path, Mode{Exclusive: true})
	if fault.Is(err, fault.Precondition) && isBlock(path) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

func isBlock(path string) bool {
	_, _, err := Number(path)
	return err == nil
}

// InUse tells whether a block device is held, as Held tells, or open in another process that this one sees (proc(5)):
// a raw volume that is merely open is claimed by nobody. Processes that end meanwhile don't count.
func InUse(path string) (bool, error) {
	held, err := Held(path)
	if err != nil || held {
		return held, err
	}
	return OpenElsewhere(path)
}

// OpenElsewhere tells whether another process has a block device open.
func OpenElsewhere(path string) (bool, error) {
	major, minor, err := Number(path)
	if err != nil {
		return false, err
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return false, fault.New(fault.Internal, "can't look which processes have %s open: %w", path, err)
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if opens(pid, unix.Mkdev(major, minor)) {
			return true, nil
		}
	}
	return false, nil
}

// opens tells whether a process has a device open. One that is gone has nothing.
func opens(pid int, device uint64) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, n := range names {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, n.Name()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == device {
			return true
		}
	}
	return false
}

// AwaitClose calls try until it is true, now and whenever somebody closes a device (inotify(7)), and once more when the
// context ends.
func AwaitClose(ctx context.Context, path string, try func() bool) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		try() // there is nothing to wait for
		return
	}
	events := os.NewFile(uintptr(fd), "events of "+path)
	defer func() { _ = events.Close() }() // only read
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE); err != nil {
		try()
		return
	}
	// A deadline in the past ends a read that waits.
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })()
	buffer := make([]byte, 4096)
	for !try() {
		if _, err := events.Read(buffer); err != nil {
			try()
			return
		}
	}
}

// Disk is what names a disk whatever the kernel calls it today.
type Disk struct {
	// WWID is its World Wide Identifier as the kernel tells it (naa., eui., nvme., t10.), Serial its serial number; each
	// is "" where it has none. A loop device's WWID is that of the file behind it, "file:DEVICE:INODE".
	WWID, Serial string
	Model        string
}

// Identify reads what names a disk from sysfs (Documentation/ABI: sysfs-block-device, sysfs-block). A disk that is gone
// is fault.NotFound. Virtual disks may have neither.
func Identify(path string) (Disk, error) {
	major, minor, err := Number(path)
	if err != nil {
		return Disk{}, err
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	if _, err := os.Stat(dir); err != nil {
		return Disk{}, failure("find in sysfs", path, cause(err))
	}
	var d Disk
	if d.WWID, err = firstOf(dir, "wwid", "device/wwid"); err != nil {
		return Disk{}, err
	}
	if d.Serial, err = serial(dir); err != nil {
		return Disk{}, err
	}
	if d.Model, err = firstOf(dir, "device/model"); err != nil {
		return Disk{}, err
	}
	if d.WWID == "" {
		d.WWID, err = backingID(path, dir)
	}
	return d, err
}

// serial is a virtio or NVMe disk's by a file of its own, a SCSI disk's from its page of vital product data: four bytes
// of header, then the number (SPC-4, 7.8.15).
func serial(dir string) (string, error) {
	text, err := firstOf(dir, "serial", "device/serial")
	if err != nil || text != "" {
		return text, err
	}
	page, err := attribute(filepath.Join(dir, "device/vpd_pg80"))
	const header = 4
	if len(page) <= header {
		return "", err
	}
	return printable(page[header:]), nil
}

func firstOf(dir string, names ...string) (string, error) {
	for _, name := range names {
		b, err := attribute(filepath.Join(dir, name))
		if text := printable(b); err != nil || text != "" {
			return text, err
		}
	}
	return "", nil
}

// attribute reads a file of sysfs; nothing where there is none, or where the device has nothing to say.
func attribute(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "can't read %s: %w", path, cause(err))
	}
	return b, nil
}

// printable is what a disk says of itself, without what doesn't belong into a name; spaces at its ends and in rows go.
func printable(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c > ' ' && c < 0x7f:
			out = append(out, c)
		case (c == ' ' || c == '\t') && len(out) > 0 && out[len(out)-1] != ' ':
			out = append(out, ' ')
		}
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}

// backingID names a loop device by the file behind it.
func backingID(path, dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, "loop")); err != nil {
		return "", nil // no loop device, or one without a file
	}
	f, err := Open(path, Mode{})
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return "", failure("ask what backs", path, err)
	}
	return fmt.Sprintf("file:%d:%d", info.Device, info.Inode), nil
}
