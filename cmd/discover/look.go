package discover

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// atOnce is how many devices are read at once: one that doesn't answer keeps no other waiting.
const atOnce = 8

// unknown is what is held by what can't be read.
const unknown = "unknown"

// physicalVolume is blkid's word for a part of a volume group.
const physicalVolume = "LVM2_member"

// machine is what the host says of its devices without opening one.
type machine struct {
	run    *command.Runner
	links  map[uint64][]string
	mounts []mount.Entry
	swaps  map[uint64]bool
}

// look returns all that was found: disks and partitions by their names, then file systems, then what LVM has.
func look(ctx context.Context, run *command.Runner) ([]Found, error) {
	devices, err := blockdev.List()
	if err != nil {
		return nil, err
	}
	m := &machine{run: run, links: blockdev.Links(), swaps: swaps()}
	if m.mounts, err = mount.New(mount.Config{}).List(ctx); err != nil {
		return nil, err
	}
	found := make([]Found, len(devices))
	var reading errgroup.Group
	reading.SetLimit(atOnce)
	for i, d := range devices {
		reading.Go(func() error {
			found[i] = m.device(ctx, d)
			return nil
		})
	}
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	lvm := m.lvm(ctx, found)
	found = slices.DeleteFunc(found, func(f Found) bool { return f.Kind == "" })
	found = slices.Concat(found, m.filesystems(), lvm)
	for i := range found {
		found[i].settle()
	}
	return found, nil
}

// swaps are the numbers of the devices that the kernel swaps to (proc(5), /proc/swaps).
func swaps() map[uint64]bool {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil // a kernel without
	}
	out := map[uint64]bool{}
	for line := range strings.Lines(string(text)) {
		if path, _, _ := strings.Cut(line, " "); strings.HasPrefix(path, "/dev/") {
			if major, minor, err := blockdev.Number(path); err == nil {
				out[unix.Mkdev(major, minor)] = true
			}
		}
	}
	return out
}

// device tells what a block device is. What is no storage of its own is nothing.
func (m *machine) device(ctx context.Context, d blockdev.Listed) Found {
	f := Found{Kind: Disk, Name: nameOf(cmp.Or(d.Mapped, d.Name)), Device: d.Path, Bytes: d.Bytes, of: []v1alpha1.DatastoreType{
		v1alpha1.TypePartition, v1alpha1.TypeDisk, v1alpha1.TypeLVM,
	}}
	switch {
	case strings.HasPrefix(d.MappedUUID, "LVM-"), strings.HasPrefix(d.Name, "ram"), strings.HasPrefix(d.Name, "zram"), strings.HasPrefix(d.Name, "sr"):
		return Found{} // LVM tells of its own; the rest is no storage
	case d.Disk != "":
		f.Kind, f.of = Partition, []v1alpha1.DatastoreType{v1alpha1.TypePartition, v1alpha1.TypeLVM}
	}
	number := unix.Mkdev(d.Major, d.Minor)
	f.hidden = strings.HasPrefix(d.Name, "loop")
	if f.Path = f.Device; d.Mapped == "" { // device-mapper's own names stay
		f.Path = m.stable(f.Device, number)
	}
	if id, err := blockdev.Identify(d.Path); err == nil {
		f.Model, f.Serial = id.Model, id.Serial
	}
	m.inUse(&f, d, number)
	m.content(ctx, &f, d)
	f.spec = func(t v1alpha1.DatastoreType) v1alpha1.DatastoreSpec { return f.deviceSpec(t) }
	return f
}

// stable is the device's name that stays, or the kernel's where it has none.
func (m *machine) stable(device string, number uint64) string {
	if links := m.links[number]; len(links) > 0 {
		return links[0]
	}
	return device // which a document is refused with, unless it is a loop device's
}

// inUse says who uses a device, by what the kernel tells of it: it is not opened for that.
func (m *machine) inUse(f *Found, d blockdev.Listed, number uint64) {
	for _, e := range m.mounts {
		if m.isOf(e, number) {
			f.refuse("mounted on " + e.MountPoint)
			break
		}
	}
	if m.swaps[number] {
		f.refuse("the kernel swaps to it")
	}
	if len(d.Holders) > 0 {
		f.refuse("held by " + strings.Join(d.Holders, ", "))
	}
	if len(d.Partitions) > 0 {
		f.refuse("has the partitions " + strings.Join(d.Partitions, ", "))
	}
	if d.ReadOnly {
		f.refuse("read-only")
	}
	if d.Removable {
		f.Notes = append(f.Notes, "it is removable")
	}
}

// isOf tells whether a mount is of a device. btrfs has numbers of its own.
func (m *machine) isOf(e mount.Entry, number uint64) bool {
	if unix.Mkdev(uint32(e.Major), uint32(e.Minor)) == number {
		return true
	}
	if e.FSType != string(filesystem.Btrfs) || !strings.HasPrefix(e.Source, "/dev/") {
		return false
	}
	major, minor, err := blockdev.Number(e.Source)
	return err == nil && unix.Mkdev(major, minor) == number
}

// content reads what is on a device: by every probe, as before a datastore is made on it.
func (m *machine) content(ctx context.Context, f *Found, d blockdev.Listed) {
	sig, err := filesystem.Probe(ctx, m.run, d.Path)
	switch {
	case fault.Is(err, fault.Precondition):
		f.Holds = unknown
		f.refuse("not clear what is on it: " + err.Error())
		return
	case err != nil:
		f.Holds = unknown
		f.refuse("can't be read: " + err.Error())
		return
	case sig.Type == "":
		blank, err := filesystem.Blank(ctx, m.run, d.Path)
		switch {
		case err != nil:
			f.Holds = unknown
			f.refuse("can't be read: " + err.Error())
		case !blank:
			f.Holds = "data without a signature"
			f.refuse("not blank: it bears no signature that is known, but doesn't read as zeroes")
		}
		return
	}
	f.Holds = sig.Type
	if sig.Label != "" {
		f.Holds += " " + fmt.Sprintf("%q", sig.Label)
	}
	if _, err := filesystem.ParseType(sig.Type); err == nil {
		f.of = []v1alpha1.DatastoreType{v1alpha1.TypePartition}
		f.Notes = append(f.Notes, "holds "+sig.Type+", which is taken as it is where it is empty; else say spec.partition.initialize")
		return
	}
	if len(d.Partitions) == 0 { // else it was said
		f.refuse("not blank: it bears " + sig.Type)
	}
}

// nameOf makes a datastore's name of another name.
func nameOf(s string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	const longest = 63
	clean = strings.Trim(clean[:min(len(clean), longest)], "-")
	if clean == "" {
		return "datastore"
	}
	return clean
}
