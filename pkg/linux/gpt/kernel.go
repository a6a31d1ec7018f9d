package gpt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Device is a partition as the kernel has it.
type Device struct {
	Number int
	Span   Span
	// Path is its node in /dev.
	Path         string
	Major, Minor uint32
}

// Devices returns the partitions of an open disk that the kernel has, by their numbers. It asks sysfs and reads nothing from
// the disk.
func Devices(disk *os.File) ([]Device, error) {
	dir, err := sysfs(disk)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "can't list the partitions of %s: %w", disk.Name(), err)
	}
	var out []Device
	for _, e := range entries {
		d, err := device(filepath.Join(dir, e.Name()), e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // no partition, or gone meanwhile
		}
		if err != nil {
			return nil, fault.New(fault.Unavailable, "can't look at partition %s of %s: %w", e.Name(), disk.Name(), err)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Device) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

// Find returns a partition of an open disk as the kernel has it; ok is false where it has none of that number.
func Find(disk *os.File, number int) (d Device, ok bool, err error) {
	all, err := Devices(disk)
	if err != nil {
		return Device{}, false, err
	}
	i := slices.IndexFunc(all, func(d Device) bool { return d.Number == number })
	if i < 0 {
		return Device{}, false, nil
	}
	return all[i], true, nil
}

// sysfs is the folder of an open disk there, in which those of its partitions lie.
func sysfs(disk *os.File) (string, error) {
	major, minor, err := blockdev.NumberOf(disk)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return "", fault.New(fault.Unavailable, "%s is gone: %w", disk.Name(), err)
	}
	return dir, nil
}

// device reads what sysfs says of a partition (Documentation/ABI/stable/sysfs-block); sectors have 512 bytes there. What
// has no number is none: fs.ErrNotExist.
func device(dir, name string) (Device, error) {
	number, err := attribute(dir, "partition")
	if err != nil {
		return Device{}, err
	}
	start, err := attribute(dir, "start")
	if err != nil {
		return Device{}, err
	}
	size, err := attribute(dir, "size")
	if err != nil {
		return Device{}, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return Device{}, err
	}
	// The kernel writes "!" in sysfs where the name has a slash.
	d := Device{Number: int(number), Span: Span{start << 9, size << 9}, Path: "/dev/" + strings.ReplaceAll(name, "!", "/")}
	if _, err := fmt.Sscanf(string(b), "%d:%d", &d.Major, &d.Minor); err != nil {
		return Device{}, fmt.Errorf("its device number is %q", b)
	}
	return d, nil
}

func attribute(dir, name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			err = fs.ErrNotExist
		}
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// Add tells the kernel of a partition and returns its device. One that it has in that place already is success; one that
// it has elsewhere is removed first where nobody uses it.
func Add(ctx context.Context, disk *os.File, number int, s Span) (Device, error) {
	d, ok, err := Find(disk, number)
	if err != nil {
		return Device{}, err
	}
	if ok && d.Span != s {
		if err := Remove(ctx, disk, number); err != nil {
			return Device{}, err
		}
		ok = false
	}
	if !ok {
		if err := tell(ctx, disk, unix.BLKPG_ADD_PARTITION, number, s); err != nil && !errors.Is(err, unix.EBUSY) {
			return Device{}, err
		} else if err != nil {
			// It overlaps one that the kernel has and the table doesn't, or somebody was faster.
			return Device{}, fault.New(fault.Precondition, "the kernel refuses partition %d of %s: another one is in its place; `partx -u %s` makes it read the table again: %w",
				number, disk.Name(), disk.Name(), err)
		}
		if d, ok, err = Find(disk, number); err != nil || !ok {
			return Device{}, fault.New(fault.Unavailable, "partition %d of %s is gone at once: %w", number, disk.Name(), err)
		}
	}
	return d, d.node(ctx)
}

// node makes sure that the partition's node in /dev is there and its own: where nobody looks after /dev, it is made.
func (d Device) node(ctx context.Context) error {
	major, minor, err := blockdev.Number(d.Path)
	if fault.Is(err, fault.NotFound) {
		err = step.Do(ctx, "make node "+d.Path, func() error {
			return unix.Mknod(d.Path, unix.S_IFBLK|0o600, int(unix.Mkdev(d.Major, d.Minor)))
		})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fault.New(fault.Internal, "can't make node %s: %w", d.Path, err)
		}
		major, minor, err = blockdev.Number(d.Path)
	}
	if err == nil && (major != d.Major || minor != d.Minor) {
		err = fault.New(fault.Precondition, "%s is block device %d:%d, the kernel's partition is %d:%d: remove the wrong node", d.Path, major, minor, d.Major, d.Minor)
	}
	return err
}

// Resize tells the kernel that a partition, which may be mounted, has grown. One that it doesn't have is success.
func Resize(ctx context.Context, disk *os.File, number int, s Span) error {
	d, ok, err := Find(disk, number)
	if err != nil || !ok || d.Span == s {
		return err
	}
	return tell(ctx, disk, unix.BLKPG_RESIZE_PARTITION, number, s)
}

// passing is how long somebody who only looks at a device may take.
const passing = 2 * time.Second

// Remove takes a partition from the kernel. One that it doesn't have is success; one that anybody has mounted or claimed, or
// has open for more than a moment, is fault.Precondition, and stays.
func Remove(ctx context.Context, disk *os.File, number int) error {
	err := remove(ctx, disk, number)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	d, ok, found := Find(disk, number)
	if found != nil || !ok {
		return found
	}
	if held, unknown := blockdev.Held(d.Path); held || unknown != nil {
		return err
	}
	// Whoever looks at the devices of the machine (udev, lvm, blkid) has it open for a moment.
	moment, cancel := context.WithTimeout(ctx, passing)
	defer cancel()
	blockdev.AwaitClose(moment, d.Path, func() bool {
		err = remove(ctx, disk, number)
		return !errors.Is(err, unix.EBUSY)
	})
	return err
}

func remove(ctx context.Context, disk *os.File, number int) error {
	err := tell(ctx, disk, unix.BLKPG_DEL_PARTITION, number, Span{})
	switch {
	case errors.Is(err, unix.ENXIO):
		if _, ok, found := Find(disk, number); found != nil || !ok {
			return found
		}
		return err
	case errors.Is(err, unix.EBUSY):
		return fault.New(fault.Precondition, "partition %d of %s is in use: unmount it, and close whatever has it open: %w", number, disk.Name(), err)
	}
	return err
}

// tell is the ioctl BLKPG (linux/blkpg.h).
func tell(ctx context.Context, disk *os.File, op int32, number int, s Span) error {
	what := map[int32]string{
		unix.BLKPG_ADD_PARTITION: "add", unix.BLKPG_RESIZE_PARTITION: "resize", unix.BLKPG_DEL_PARTITION: "remove",
	}[op]
	const blkpg = 0x1269 // _IO(0x12, 105)
	p := unix.BlkpgPartition{Start: s.Start, Length: s.Bytes, Pno: int32(number)}
	err := step.Do(ctx, fmt.Sprintf("have the kernel %s partition %d of %s", what, number, disk.Name()), func() error {
		arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
		for {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&arg)))
			if errno == 0 {
				return nil
			}
			if !errors.Is(errno, unix.EINTR) {
				return errno
			}
		}
	})
	if err != nil {
		return fault.New(fault.Unavailable, "have the kernel %s partition %d of %s: %w", what, number, disk.Name(), err)
	}
	return nil
}
