package loop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// errNotAttached says that a loop device backs nothing, or is just losing what it backed.
var errNotAttached = errors.New("the loop device backs no image")

// node is an open loop device.
type node struct {
	number       int
	path         string
	major, minor uint32
	fd           int
}

// open opens the device node of a loop number, which must be there.
func (m *Manager) open(number, flags int) (*node, error) {
	n := &node{number: number, path: filepath.Join(m.dev, "loop"+strconv.Itoa(number)), fd: -1}
	var err error
	if n.major, n.minor, err = m.deviceNumber(number); err != nil {
		return nil, err
	}
	n.fd, err = unix.Open(n.path, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("open %s: %w", n.path, errNotAttached)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: n.path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		n.close()
		return nil, &fs.PathError{Op: "stat", Path: n.path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(n.major, n.minor) {
		n.close()
		return nil, fault.New(fault.Precondition, "%s is not block device %d:%d, which the kernel calls loop%d: remove the wrong node", n.path, n.major, n.minor, number)
	}
	return n, nil
}

// openOrMake opens a loop device, making its node where /dev lacks it: in a container /dev may be a
// copy that nobody keeps up to date.
func (m *Manager) openOrMake(ctx context.Context, number, flags int) (*node, error) {
	n, err := m.open(number, flags)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	major, minor, err := m.deviceNumber(number)
	if err != nil {
		return nil, err
	}
	if err := makeNode(ctx, filepath.Join(m.dev, "loop"+strconv.Itoa(number)), unix.S_IFBLK, major, minor); err != nil {
		return nil, err
	}
	return m.open(number, flags)
}

// makeNode makes a device node for root alone. One that is there already is fine: it is checked when
// it is opened.
func makeNode(ctx context.Context, path string, kind, major, minor uint32) error {
	return step.Do(ctx, "loop: make node "+path, func() error {
		err := unix.Mknod(path, kind|0o600, int(unix.Mkdev(major, minor)))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return &fs.PathError{Op: "mknod", Path: path, Err: err}
		}
		return nil
	})
}

// deviceNumber asks sysfs for the device number: the minor is not the loop's number where the kernel
// reserves room for partitions (loop.max_part). fs.ErrNotExist: there is no such loop device.
func (m *Manager) deviceNumber(number int) (major, minor uint32, err error) {
	path := m.sysfs(number, "dev")
	b, err := readSysfs(path)
	if err != nil {
		return 0, 0, err
	}
	a, c, ok := strings.Cut(b, ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(c, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%s holds %q, not a device number", path, b)
	}
	return uint32(x), uint32(y), nil
}

// sysfs names a file of a loop device.
func (m *Manager) sysfs(number int, name string) string {
	return filepath.Join(m.sysBlock, "loop"+strconv.Itoa(number), name)
}

// all returns the numbers of the machine's loop devices, in order.
func (m *Manager) all() ([]int, error) {
	d, err := os.Open(m.sysBlock)
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	defer func() { _ = d.Close() }() // only read
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var numbers []int
	for _, name := range names {
		digits, isLoop := strings.CutPrefix(name, "loop")
		if n, err := strconv.Atoi(digits); isLoop && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// isAttached tells without opening the device whether it backs something.
func (m *Manager) isAttached(number int) bool {
	return unix.Access(m.sysfs(number, "loop/backing_file"), unix.F_OK) == nil
}

// close closes the device. Where that was the last user of one that is to be detached, the kernel
// detaches it now.
func (n *node) close() { _ = unix.Close(n.fd) }

// status asks what the device backs (LOOP_GET_STATUS64). errNotAttached: nothing.
func (n *node) status() (*unix.LoopInfo64, error) {
	info, err := unix.IoctlLoopGetStatus64(n.fd)
	if errors.Is(err, unix.ENXIO) {
		return nil, errNotAttached
	}
	if err != nil {
		return nil, fmt.Errorf("LOOP_GET_STATUS64: %w", err)
	}
	return info, nil
}

// describe returns the device as it is now.
func (m *Manager) describe(n *node) (Device, error) {
	info, err := n.status()
	if err != nil {
		return Device{}, fmt.Errorf("%s: %w", n.path, err)
	}
	size, err := n.bytes()
	if err != nil {
		return Device{}, err
	}
	sector, err := unix.IoctlGetInt(n.fd, unix.BLKSSZGET)
	if err != nil {
		return Device{}, fmt.Errorf("%s: BLKSSZGET: %w", n.path, err)
	}
	discard, _, err := m.discardLimits(n.number)
	if err != nil {
		return Device{}, err
	}
	name, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	return Device{
		Path: n.path, Number: n.number, Major: n.major, Minor: n.minor, Bytes: size, SectorSize: sector,
		ReadOnly: info.Flags&unix.LO_FLAGS_READ_ONLY != 0,
		DirectIO: info.Flags&unix.LO_FLAGS_DIRECT_IO != 0,
		Discard:  discard > 0,
		Name:     string(name), ImageDev: info.Device, ImageInode: info.Inode,
	}, nil
}

// bytes returns the device's size.
func (n *node) bytes() (int64, error) {
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return 0, fmt.Errorf("%s: BLKGETSIZE64: %w", n.path, errno)
	}
	return int64(size), nil
}
