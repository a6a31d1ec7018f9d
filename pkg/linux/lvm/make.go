package lvm

import (
	"context"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// metadataSize of the physical volumes of a new group: LVM's own choice of 1 MiB holds some 600 volumes with our tags.
const metadataSize = "32m"

// MakeGroup makes a volume group of devices, with their whole space. Devices that bear anything are refused: lvm is not told to go on
// where it asks. The caller has made sure that they are blank.
func MakeGroup(ctx context.Context, run *command.Runner, name string, devices, tags []string) error {
	if !validName(name) {
		return fault.New(fault.Invalid, "%q can't be the name of a volume group", shorten(name))
	}
	add, err := tagArguments("--addtag", tags)
	if err != nil {
		return err
	}
	_, err = program{run}.do(ctx, call{
		devices: devices, changes: "make volume group " + name,
		args: slices.Concat([]string{"vgcreate", "--metadatasize", metadataSize}, add, []string{name}, devices),
	})
	return fault.Wrap(err, "make volume group", name)
}

// Seen is a physical volume that was found.
type Seen struct {
	Device, UUID string
	// Group that it belongs to; "" for none.
	Group, GroupUUID string
	GroupTags        []string
	// SystemID and LockType of the group.
	SystemID, LockType string
}

// Scan looks which of these devices are physical volumes, and whose. Nothing is changed.
func Scan(ctx context.Context, run *command.Runner, devices []string) ([]Seen, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	out, err := program{run}.do(ctx, call{devices: devices, args: []string{
		"pvs", "--foreign", "--shared", "--reportformat", "json", "-o", "pv_name,pv_uuid,vg_name,vg_uuid,vg_tags,vg_systemid,vg_lock_type",
	}})
	if err != nil && len(out) == 0 {
		return nil, fault.Wrap(fault.As(fault.Unavailable, err), "look for", "physical volumes")
	}
	r, err := parseReport(out)
	if err != nil {
		return nil, err
	}
	var all []Seen
	for _, part := range r.Report {
		for _, p := range part.PV {
			s := Seen{
				Device: string(p["pv_name"]), UUID: string(p["pv_uuid"]), Group: string(p["vg_name"]), GroupUUID: string(p["vg_uuid"]),
				GroupTags: p["vg_tags"].list(), SystemID: string(p["vg_systemid"]), LockType: string(p["vg_lock_type"]),
			}
			// LVM may prefer another of a device's names, each of which can be a node of its own. What is missing has none.
			if i := slices.IndexFunc(devices, func(d string) bool { return sameDevice(d, s.Device) }); i >= 0 {
				s.Device = devices[i]
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// sameDevice tells whether two paths stand for one device now.
func sameDevice(a, b string) bool {
	if a == b {
		return true
	}
	major, minor, err := blockdev.Number(a)
	if err != nil {
		return false
	}
	otherMajor, otherMinor, err := blockdev.Number(b)
	return err == nil && major == otherMajor && minor == otherMinor
}

// LocalSystemID returns the system ID that LVM has on this host; "" is none. Groups of another one are not this host's to use (lvmsystemid(7)).
func LocalSystemID(ctx context.Context, run *command.Runner) (string, error) {
	out, err := run.Run(ctx, command.Cmd{Tool: "lvm", Args: []string{"systemid"}, Env: []string{"LVM_SUPPRESS_FD_WARNINGS=1"}})
	if err != nil {
		return "", err
	}
	return parseSystemID(out), nil
}
