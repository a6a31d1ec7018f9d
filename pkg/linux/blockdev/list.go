package blockdev

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Listed is a block device as sysfs shows it (Documentation/ABI/stable/sysfs-block). It was not opened.
type Listed struct {
	// Name is the kernel's, Path the node in /dev of that name, or of that which device-mapper knows it by.
	Name, Path   string
	Major, Minor uint32
	Bytes        int64
	// Disk is the name of the disk that a partition is of; "" for what is no partition. Partitions are the names of a disk's.
	Disk       string
	Partitions []string
	// ReadOnly, Removable and Rotational as the kernel has it; a partition's are its disk's.
	ReadOnly, Removable, Rotational bool
	// Holders are the names of the devices that lie on it: of device-mapper, md, bcache.
	Holders []string
	// Mapped is the name that device-mapper knows it by, "" for others, and MappedUUID tells who made it ("LVM-", "mpath-",
	// "CRYPT-"). Backing is the file behind a loop device.
	Mapped, MappedUUID, Backing string
}

// List returns the block devices that have a size, in the order of their names. What vanishes meanwhile is left out.
func List() ([]Listed, error) {
	const class = "/sys/class/block"
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "can't list the block devices: %w", err)
	}
	byName := map[string]*Listed{}
	for _, e := range entries {
		d, err := listed(filepath.Join(class, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || err == nil && d.Bytes == 0 {
			continue
		}
		if err != nil {
			return nil, fault.New(fault.Unavailable, "can't read %s of sysfs: %w", e.Name(), err)
		}
		byName[d.Name] = &d
	}
	out := make([]Listed, 0, len(byName))
	for _, d := range byName {
		if disk := byName[d.Disk]; disk != nil {
			d.Removable, d.Rotational = disk.Removable, disk.Rotational
			disk.Partitions = append(disk.Partitions, d.Name)
		}
	}
	for _, d := range byName {
		slices.Sort(d.Partitions)
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// listed reads a device's folder of sysfs.
func listed(link string) (Listed, error) {
	dir, err := filepath.EvalSymlinks(link) // a partition's lies in its disk's
	if err != nil {
		return Listed{}, err
	}
	name := filepath.Base(link)
	d := Listed{Name: name, Path: "/dev/" + strings.ReplaceAll(name, "!", "/")}
	sectors, err := number(dir, "size")
	if err != nil {
		return d, err
	}
	const sector = 512 // whatever the device's own are
	d.Bytes = sectors * sector
	if text, err := word(dir, "dev"); err == nil {
		major, minor, _ := strings.Cut(text, ":")
		a, _ := strconv.ParseUint(major, 10, 32)
		b, _ := strconv.ParseUint(minor, 10, 32)
		d.Major, d.Minor = uint32(a), uint32(b)
	} else {
		return d, err
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		d.Disk = filepath.Base(filepath.Dir(dir))
	}
	for attribute, flag := range map[string]*bool{"ro": &d.ReadOnly, "removable": &d.Removable, "queue/rotational": &d.Rotational} {
		n, err := number(dir, attribute)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a partition has only the first
			return d, err
		}
		*flag = n != 0
	}
	if d.Holders, err = names(dir, "holders"); err != nil {
		return d, err
	}
	for attribute, text := range map[string]*string{"dm/name": &d.Mapped, "dm/uuid": &d.MappedUUID, "loop/backing_file": &d.Backing} {
		if *text, err = word(dir, attribute); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
	}
	if d.Mapped != "" {
		d.Path = "/dev/mapper/" + d.Mapped
	}
	return d, nil
}

func word(dir, attribute string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, attribute))
	return strings.TrimSpace(string(b)), err
}

func number(dir, attribute string) (int64, error) {
	text, err := word(dir, attribute)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// names lists a folder of sysfs; nothing where there is none.
func names(dir, folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// Links returns the names that udev gives to block devices (udev(7), /dev/disk/by-*), by the number of the device, each list
// with the names that say most first: what a disk or partition says of itself before where it is connected. There are none
// without udev.
func Links() map[uint64][]string {
	out := map[uint64][]string{}
	for _, folder := range []string{"by-id", "by-partuuid", "by-path"} {
		dir := filepath.Join("/dev/disk", folder)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // there is none
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if major, minor, err := Number(path); err == nil {
				at := unix.Mkdev(major, minor)
				out[at] = append(out[at], path)
			}
		}
	}
	for at := range out {
		slices.SortStableFunc(out[at], func(a, b string) int { return rank(a) - rank(b) })
	}
	return out
}

// rank orders the names of one device. A World Wide Identifier is the disk's own wherever it is connected; what
// device-mapper, LVM and md name is named by those.
func rank(path string) int {
	name := filepath.Base(path)
	switch dir := filepath.Base(filepath.Dir(path)); {
	case dir == "by-id" && (strings.HasPrefix(name, "wwn-") || strings.HasPrefix(name, "nvme-eui.")):
		return 0
	case dir == "by-partuuid":
		return 1
	case dir == "by-id":
		return 2
	}
	return 3
}
