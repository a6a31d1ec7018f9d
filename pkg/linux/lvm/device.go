package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

// Device is a logical volume that is active, as device-mapper knows it.
type Device struct {
	// Path of a device node that stands for it now.
	Path string
	// Opens counts who has it open: mounts, processes, devices on top of it.
	Opens int
	// ReadOnly refuses writes.
	ReadOnly bool
	// Suspended holds all that is read and written back: a call of lvm died in the middle. Group.Refresh lets it go on.
	Suspended bool
}

// The structure of device-mapper's calls (struct dm_ioctl, include/uapi/linux/dm-ioctl.h).
const (
	dmControl   = "/dev/mapper/control"
	dmDir       = "/dev/mapper/"
	dmSize      = 312
	dmMajor     = 4
	dmDevStatus = 0xc138fd07 // _IOWR(0xfd, 7, struct dm_ioctl)
	dmDataSize  = 12
	dmOpenCount = 24
	dmFlags     = 28
	dmDev       = 40
	dmName      = 48
	dmUUID      = 176
	dmUUIDSize  = 129
	dmNameSize  = 128
	dmReadOnly  = 1 // DM_READONLY_FLAG
	dmSuspended = 2 // DM_SUSPEND_FLAG
)

// FindDeviceNamed looks an active volume up by its name in a group, and makes sure that it is of the group of that UUID. It returns the
// volume's UUID too. One that is not active is fault.NotFound; a device of that name that is none of the group's is fault.Precondition.
func FindDeviceNamed(groupUUID, group, volume string) (Device, string, error) {
	name := strings.ReplaceAll(group, "-", "--") + "-" + strings.ReplaceAll(volume, "-", "--")
	if len(name) >= dmNameSize {
		return Device{}, "", fault.New(fault.Internal, "%q is too long for the name of a device", shorten(name))
	}
	d, uuid, err := ask(func(b []byte) { copy(b[dmName:], name) }, name)
	if err != nil {
		return Device{}, "", err
	}
	prefix := "LVM-" + strings.ReplaceAll(groupUUID, "-", "")
	bare, ok := strings.CutPrefix(uuid, prefix)
	if !ok || groupless(uuid) {
		return Device{}, "", fault.New(fault.Precondition, "device-mapper's %s is %q, no volume of the group of UUID %s; it is left alone", name, shorten(uuid), groupUUID)
	}
	return d, dashed(bare), nil
}

// dashed writes a UUID as LVM shows it: groups of 6, 4, 4, 4, 4, 4 and 6 characters.
func dashed(bare string) string {
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts = append(parts, bare[:n])
		bare = bare[n:]
	}
	return strings.Join(parts, "-")
}

// FindDevice looks an active volume up by its UUIDs, which no other device has. One that is not active is
// fault.NotFound. It asks the kernel and opens no device.
func FindDevice(groupUUID, volumeUUID string) (Device, error) {
	return findDevice("LVM-" + strings.ReplaceAll(groupUUID+volumeUUID, "-", ""))
}

func findDevice(uuid string) (Device, error) {
	if len(uuid) >= dmUUIDSize || groupless(uuid) {
		return Device{}, fault.New(fault.Internal, "%q is no UUID of a logical volume", shorten(uuid))
	}
	d, _, err := ask(func(b []byte) { copy(b[dmUUID:], uuid) }, uuid)
	return d, err
}

// ask has device-mapper tell of the device that fill names in the request, and returns its UUID too.
func ask(fill func([]byte), what string) (Device, string, error) {
	control, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return Device{}, "", fault.New(fault.Unavailable, "device-mapper can't be asked: %w; load the module dm_mod", err)
	}
	defer control.Close() //nolint:errcheck // nothing is written
	b := make([]byte, dmSize)
	ne := binary.NativeEndian
	ne.PutUint32(b, dmMajor)
	ne.PutUint32(b[dmDataSize:], dmSize)
	fill(b)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), dmDevStatus, uintptr(unsafe.Pointer(&b[0])))
	if errors.Is(errno, unix.ENXIO) {
		return Device{}, "", fault.New(fault.NotFound, "device-mapper knows no device %s: it is not active", what)
	}
	if errno != 0 {
		return Device{}, "", fault.New(fault.Unavailable, "device-mapper can't tell of device %s: %w", what, errno)
	}
	name, _, _ := bytes.Cut(b[dmName:dmName+dmNameSize], []byte{0})
	uuid, _, _ := bytes.Cut(b[dmUUID:dmUUID+dmUUIDSize], []byte{0})
	dev, flags := ne.Uint64(b[dmDev:]), ne.Uint32(b[dmFlags:])
	path, err := nodeOf(string(name), unix.Major(dev), unix.Minor(dev))
	return Device{
		Path: path, Opens: int(int32(ne.Uint32(b[dmOpenCount:]))), ReadOnly: flags&dmReadOnly != 0, Suspended: flags&dmSuspended != 0,
	}, string(uuid), err
}

// groupless tells a UUID that lacks one of its halves.
func groupless(uuid string) bool { return len(uuid) != len("LVM-")+2*32 }

// nodeOf returns a device node of that number: the kernel's own, or LVM's.
func nodeOf(name string, major, minor uint32) (string, error) {
	for _, path := range []string{"/dev/dm-" + strconv.Itoa(int(minor)), dmDir + name} {
		if a, b, err := blockdev.Number(path); err == nil && a == major && b == minor {
			return path, nil
		}
	}
	return "", fault.New(fault.Unavailable, "no device node in /dev stands for %s (%d:%d); mount devtmpfs there, or the host's /dev", name, major, minor)
}
