// Package loop attaches image files to loop devices (loop(4)) by ioctl, and finds and detaches them.
//
// An image is known by device and inode, never by name. The Manager keeps an index from images to
// loop numbers, which is only a hint where to look first: what a loop device backs is asked of the
// kernel (LOOP_GET_STATUS64) on an open descriptor before each use. As long as that descriptor is open
// the kernel takes no image off the device, so the answer holds. No counts are kept: whether a device
// is in use is the kernel's to know.
//
// # Discard
//
// The kernel passes discards on to the image's file system as holes. Where Options.Discard is false
// that must not happen, since the image's space was promised. Setting queue/discard_max_bytes to 0
// makes the driver refuse every such request, those to write zeroes included, which then arrive as
// plain writes: BLKDISCARD, fstrim(8), `fallocate -p` and ext4's own zeroing all leave the image whole.
// The kernel's log gets a line "operation not supported error ... (WRITE_ZEROES)" for each such request; it
// means nothing.
//
// Since about Linux 6.9 that limit outlives the attachment, and once it is 0 it can't be raised again
// (the granularity becomes 0 with it, and then each value is refused). Only removing the device would
// help, which takes 50 ms and fails whoever was just given its number. So devices without discard are
// ones of their own: added for it, and used again for nothing else; strangers find the others first,
// since those have lower numbers.
package loop

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Config says where the machine is looked at.
type Config struct {
	// SysBlock is the block devices' folder in sysfs; empty means /sys/block.
	SysBlock string
	// Dev is the folder of device nodes; empty means /dev.
	Dev string
}

// Manager attaches and detaches loop devices. It may be used by any number of goroutines; work on
// different images doesn't wait for each other.
type Manager struct {
	sysBlock, dev string
	index         index
	images        keyLock
	free          pool
}

// New reads once which images the machine's loop devices back; afterwards an attachment costs the
// same however many there are. It may block where an image lies on a network file system that is gone.
func New(c Config) (*Manager, error) {
	if c.SysBlock == "" {
		c.SysBlock = "/sys/block"
	}
	if c.Dev == "" {
		c.Dev = "/dev"
	}
	m := &Manager{sysBlock: c.SysBlock, dev: c.Dev}
	numbers, err := m.all()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if !m.isAttached(n) {
			m.free.put(n, unsorted)
			continue
		}
		if err := m.learn(n); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Options says how an image is attached.
type Options struct {
	// ReadOnly makes a device that refuses writes. The same image may be attached once read-only and
	// once writable.
	ReadOnly bool
	// DirectIO reads and writes past the page cache where the image's file system and the sector
	// size allow; else the device is buffered, as Device.DirectIO says.
	DirectIO bool
	// Discard passes discards on as holes in the image.
	Discard bool
	// SectorSize is the logical block size in bytes: 512 (and 0) to 4096, a power of two. A device
	// that is attached already keeps its own.
	SectorSize int
	// Name is a mark for a person who looks at the device (lo_file_name), at most 63 bytes. It
	// decides nothing, and a device that is attached already keeps its own.
	Name string
}

// check returns fault.Invalid for options that no kernel meets, and the sector size to ask for.
func (o Options) check() (sectorSize int, err error) {
	size := o.SectorSize
	if size == 0 {
		size = 512
	}
	if size < 512 || size > 4096 || size&(size-1) != 0 {
		return 0, fault.New(fault.Invalid, "sector size %d is not 512, 1024, 2048 or 4096 bytes", o.SectorSize)
	}
	if limit := len(unix.LoopInfo64{}.File_name) - 1; len(o.Name) > limit {
		return 0, fault.New(fault.Invalid, "name %q has %d bytes, a loop device keeps %d", o.Name, len(o.Name), limit)
	}
	return size, nil
}

// Device is an attached loop device at one moment.
type Device struct {
	// Path is its node, /dev/loopN; Number is N.
	Path   string
	Number int
	// Major and Minor are the device number. Minor need not be N.
	Major, Minor uint32
	// Bytes is its size.
	Bytes int64
	// ReadOnly, DirectIO, Discard and SectorSize (bytes) are as the kernel has them.
	ReadOnly   bool
	DirectIO   bool
	Discard    bool
	SectorSize int
	// Name is the mark given at attaching.
	Name string
	// ImageDev and ImageInode are st_dev and st_ino of the image behind it.
	ImageDev, ImageInode uint64
}

// learn puts what one loop device backs into the index.
func (m *Manager) learn(number int) error {
	n, err := m.open(number, unix.O_RDONLY)
	if errors.Is(err, errNotAttached) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at loop device %d: %w", number, err)
	}
	defer n.close()
	info, err := n.status()
	if errors.Is(err, errNotAttached) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", n.path, err)
	}
	if s, whole := slotOf(info); whole {
		m.index.put(s, number)
	}
	return nil
}
