package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Grow grows a mounted file system to the size of its device, given in bytes, by an ioctl on the mount
// point, and returns its size before and after as statfs tells it (ext4 counts without its own
// structures there). Called again it changes nothing, and nothing ever shrinks.
//
// A path that isn't the root of a mount of that file system is fault.Precondition, so that the file
// system of the host is never grown in the place of one that isn't mounted; so is a read-only mount, and
// a device that is smaller than deviceBytes. Another resize or a balance at work is fault.Busy.
func Grow(ctx context.Context, mountPoint string, t Type, deviceBytes int64) (from, to int64, err error) {
	fd, err := openMount(mountPoint, t)
	if err != nil {
		return 0, 0, fault.Wrap(err, "grow "+string(t)+" at", mountPoint)
	}
	defer func() { _ = unix.Close(fd) }() // read only: nothing can be lost
	from, to, err = grow(ctx, fd, t, deviceBytes, mountPoint)
	return from, to, fault.Wrap(err, "grow "+string(t)+" at", mountPoint)
}

func grow(ctx context.Context, fd int, t Type, deviceBytes int64, mountPoint string) (from, to int64, err error) {
	if from, err = totalBytes(fd); err != nil {
		return 0, 0, err
	}
	if t != Btrfs { // whose device number is made up
		if err := checkDevice(fd, deviceBytes); err != nil {
			return from, from, err
		}
	}
	change, err := growth(fd, t, deviceBytes)
	if err != nil || change == nil {
		return from, from, err
	}
	what := fmt.Sprintf("grow %s at %s to %d bytes", t, mountPoint, deviceBytes)
	if err := step.Do(ctx, what, change); err != nil {
		return from, from, growFailure(err, deviceBytes)
	}
	to, err = totalBytes(fd)
	return from, to, err
}

// growth returns the change that grows the file system, or nil where it already fills its device.
func growth(fd int, t Type, deviceBytes int64) (func() error, error) {
	switch t {
	case Ext4:
		return ext4Growth(fd, deviceBytes)
	case XFS:
		return xfsGrowth(fd, deviceBytes)
	default:
		return btrfsGrowth(fd, deviceBytes)
	}
}

// openMount opens the root of a mount of a file system.
func openMount(mountPoint string, t Type) (int, error) {
	magic, ok := map[Type]int64{Ext4: unix.EXT4_SUPER_MAGIC, XFS: unix.XFS_SUPER_MAGIC, Btrfs: unix.BTRFS_SUPER_MAGIC}[t]
	if !ok {
		return -1, fault.New(fault.Invalid, "%q is no file system that grows", shorten(string(t)))
	}
	fd, err := unix.Open(mountPoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fault.New(fault.Unavailable, "can't be opened: %w", err)
	}
	if err := checkMount(fd, t, magic); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkMount tells whether a descriptor is the root of a mount of the file system.
func checkMount(fd int, t Type, magic int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	if int64(fs.Type) != magic { //nolint:unconvert // its width differs between architectures
		return fault.New(fault.Precondition, "it is not %s (statfs says type %#x): is the volume mounted?", t, fs.Type)
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return fault.New(fault.Precondition, "it is not the root of a mount: is the volume mounted?")
	}
	return nil
}

// checkDevice refuses a size that the device under a descriptor doesn't have.
func checkDevice(fd int, deviceBytes int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	path := fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(st.Dev), unix.Minor(st.Dev))
	b, err := os.ReadFile(path)
	if err != nil {
		return fault.New(fault.Unavailable, "can't tell the size of its device: %w", err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return fault.New(fault.Internal, "%s holds %q, which is no number of sectors", path, b)
	}
	const sector = 512 // the unit of that file, whatever the device's own is
	if have := sectors * sector; have < deviceBytes {
		return fault.New(fault.Precondition, "its device has %d bytes, not %d: was the device grown?", have, deviceBytes)
	}
	return nil
}

// totalBytes is the size of a file system as statfs tells it.
func totalBytes(fd int) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	return usage(&st).TotalBytes, nil
}

// growFailure gives the kernel's refusal a kind.
func growFailure(err error, deviceBytes int64) error {
	kind := fault.Internal
	switch {
	case errors.Is(err, unix.EPERM):
		return fault.New(fault.Precondition, "the kernel refused to grow it to %d bytes while it is mounted: that needs CAP_SYS_RESOURCE for ext4; "+
			"give this process that capability, or unstage the volume and stage it again: %w", deviceBytes, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN), fault.Is(err, fault.Busy):
		kind = fault.Busy
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EOPNOTSUPP):
		kind = fault.Precondition
	case errors.Is(err, unix.EIO):
		kind = fault.Unavailable
	}
	return fault.New(kind, "the kernel refused to grow it to %d bytes (its log may say why): %w", deviceBytes, err)
}

// NeedsGrow tells whether a file system is smaller than its device by more than its rounding, 64 KiB:
// the largest block that any of them has. ext4 and xfs leave the end of a device unused where it is too
// small for a group (some MiB at most); they are then told to grow each time, which changes nothing.
func NeedsGrow(sig Signature, deviceBytes int64) bool {
	return sig.Bytes > 0 && deviceBytes-sig.Bytes >= 64*kib
}
