// Package loop attaches image files to loop devices (loop(4)) by ioctl, and finds and detaches them.
//
// An image is known by device and inode, never by name. The Manager keeps an index from images to
// loop numbers, which is only a hint where to look first: what a loop device backs is asked of the kernel
// (LOOP_GET_STATUS64) on an open descriptor before each use, and that descriptor is used. No counts are
// kept: whether a device is in use is the kernel's to know.
package loop

import (
	"context"
	"os"

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
type Manager struct{}

// New reads once which images the machine's loop devices back. Afterwards it costs nothing that
// there are many.
func New(c Config) (*Manager, error) { return nil, fault.New(fault.Internal, "not made yet") }

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
	// Name is a mark for a person who looks at the device (lo_file_name): at most 63 bytes. It decides nothing.
	Name string
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
	// ReadOnly, DirectIO and SectorSize (bytes) are as the kernel has them.
	ReadOnly   bool
	DirectIO   bool
	SectorSize int
	// Name is the mark given at attaching.
	Name string
	// ImageDev and ImageInode are st_dev and st_ino of the image behind it.
	ImageDev, ImageInode uint64
}

// Attach returns a loop device that backs image, a regular file (or block device) open for what is asked of it.
// One that backs it already, with the same ReadOnly, is used again: a detachment that waits for its last user
// is taken back, its size made that of the image, its direct I/O and discard settings as asked for. Two calls
// at once for one image get one device.
//
// The device takes a description of its own: closing image, its offset and its locks don't matter to it.
// Errors: fault.Invalid for options that can't be met, fault.Busy where other users of loop devices
// win every race, fault.Unavailable where the machine has no loop devices.
func (m *Manager) Attach(ctx context.Context, image *os.File, o Options) (Device, error) {
	return Device{}, fault.New(fault.Internal, "not made yet")
}

// Find returns the device that backs image, if there is one with that ReadOnly. It looks at each
// loop device where the index knows none.
func (m *Manager) Find(image *os.File, readOnly bool) (Device, bool, error) {
	return Device{}, false, fault.New(fault.Internal, "not made yet")
}

// Refresh makes the device as large as its image is now (LOOP_SET_CAPACITY). fault.Precondition: the
// device no longer backs that image.
func (m *Manager) Refresh(ctx context.Context, d Device) (Device, error) {
	return Device{}, fault.New(fault.Internal, "not made yet")
}

// Detach detaches image from all loop devices that back it, writable and read-only. One in use is
// detached by the kernel when its last user closes it (autoclear); that, and no device, is success.
func (m *Manager) Detach(ctx context.Context, image *os.File) error {
	return fault.New(fault.Internal, "not made yet")
}
