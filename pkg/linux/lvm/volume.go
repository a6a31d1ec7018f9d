package lvm

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Shape is how a thick volume lies on its physical volumes.
type Shape struct {
	// Segment is a type of lvm: linear, striped, raid1, raid5, raid6 or raid10.
	Segment string
	// Stripes that data is spread over, parity aside; 0 and 1 are none. Mirrors are copies beside the first (raid1, raid10).
	Stripes, Mirrors int
}

// NewVolume says what volume is made.
type NewVolume struct {
	Name  string
	Bytes int64
	Shape Shape
	Tags  []string
	// On are the free extents that LVM may take; none is any. A linear volume takes all that are named, and so needs as many as it has.
	On []Range
	// Active volumes can be used when they are made. A raid that was never active has nothing that tells its legs apart, and can't be
	// used without one of them.
	Active bool
}

// neverByItself keeps a volume from being activated at boot, or when its last device comes: it is activated by name and with -K only.
// lvcreate takes no --setautoactivation for thin volumes, raids and snapshots (LVM 2.03.16).
func neverByItself() []string { return []string{"-ky"} }

func activation(active bool) []string {
	if active {
		return []string{"-ay", "-K"}
	}
	return []string{"-an"}
}

func tagArguments(option string, tags []string) ([]string, error) {
	var out []string
	for _, t := range tags {
		if err := checkTag(t); err != nil {
			return nil, err
		}
		out = append(out, option, t)
	}
	return out, nil
}

func bytesArgument(n int64) string { return strconv.FormatInt(n, 10) + "b" }

// Create makes a thick volume, and leaves its bytes as they are: they are somebody's. A name that is taken is fault.Exists,
// too little room, for volumes or for metadata, fault.Exhausted.
func (g *Group) Create(ctx context.Context, n NewVolume) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		if err := vg.checkNew(n.Name, n.Bytes); err != nil {
			return change{}, err
		}
		tags, err := tagArguments("--addtag", n.Tags)
		if err != nil {
			return change{}, err
		}
		on, ok := vg.arguments(n.On)
		if !ok {
			return change{}, fault.New(fault.Unavailable, "a device of volume group %s is missing", vg.Name)
		}
		extents := vg.RoundUp(n.Bytes)
		args := slices.Concat([]string{"lvcreate", "--yes", "-Wn", "-Zn", "-n", n.Name, "-l", strconv.FormatInt(extents, 10)},
			n.Shape.arguments(), activation(n.Active), neverByItself(), tags, []string{vg.Name}, on)
		c := change{what: "create logical volume " + vg.Name + "/" + n.Name, args: args, rises: 1, failed: vg.noRoom(n.Name, extents)}
		if strings.HasPrefix(n.Shape.Segment, "raid") {
			c.rises = 2
		}
		if n.Shape.linear() {
			c.apply = func(next *VolumeGroup) {
				next.put(LogicalVolume{Name: n.Name, Kind: Linear, Segment: string(Linear), Bytes: extents * vg.ExtentSize, Tags: n.Tags, Active: n.Active, ActivationSkipped: true, Stripes: 1})
				next.take(n.Name, extents, n.On)
			}
		}
		return c, nil
	})
}

func (s Shape) linear() bool { return s.Segment == "" || s.Segment == string(Linear) }

func (s Shape) arguments() []string {
	if s.linear() {
		return nil
	}
	out := []string{"--type", s.Segment}
	if s.Stripes > 1 {
		out = append(out, "-i", strconv.Itoa(s.Stripes))
	}
	if s.Mirrors > 0 {
		out = append(out, "-m", strconv.Itoa(s.Mirrors))
	}
	return out
}

// checkNew refuses what can't be made before lvm is asked.
func (vg *VolumeGroup) checkNew(name string, bytes int64) error {
	if !validName(name) {
		return fault.New(fault.Invalid, "%q can't be the name of a logical volume", shorten(name))
	}
	if bytes <= 0 {
		return fault.New(fault.Invalid, "%d bytes are no size for logical volume %s", bytes, name)
	}
	if _, there := vg.LVs[name]; there {
		return fault.New(fault.Exists, "volume group %s has a logical volume %s already", vg.Name, name)
	}
	return nil
}

// maxName is the length of the longest name of a volume, less what LVM appends for its parts (lvm(8): 127 with the group's name and hyphens doubled).
const maxName = 100

// validName is lvm(8), "VALID NAMES", without what LVM keeps for itself.
func validName(name string) bool {
	if name == "" || len(name) > maxName || name == "." || name == ".." || name[0] == '-' {
		return false
	}
	for _, r := range name {
		if r > 0x7f || !plain(byte(r)) || r == '/' || r == ':' {
			return false
		}
	}
	return true
}

// noRoom says what it means that a volume could not be made.
func (vg *VolumeGroup) noRoom(name string, extents int64) func(*VolumeGroup) error {
	return func(now *VolumeGroup) error {
		switch _, there := now.LVs[name]; {
		case there:
			return fault.New(fault.Exists, "volume group %s has a logical volume %s already", now.Name, name)
		case now.FreeExtents < extents:
			return fault.New(fault.Exhausted, "volume group %s has %d bytes free, %d are needed", now.Name, now.FreeBytes(), extents*now.ExtentSize)
		case now.MetadataFree < now.MetadataSize/metadataShare:
			return fault.New(fault.Exhausted, "the metadata area of volume group %s is nearly full (%d of %d bytes are free): it holds %d volumes; "+
				"a group with a larger one (pvcreate --metadatasize) holds more", now.Name, now.MetadataFree, now.MetadataSize, len(now.LVs))
		case now.MissingPVs > 0:
			return fault.New(fault.Unavailable, "volume group %s lacks %d of its devices, and is not changed until they are back or given up (vgreduce --removemissing)",
				now.Name, now.MissingPVs)
		}
		return nil
	}
}

// metadataShare is the part of the metadata area that is called nearly full: LVM needs room for the old and the new text.
const metadataShare = 64

// NewThin says what thin volume is made, empty or, with an Origin, of what that holds now.
type NewThin struct {
	Name, Pool string
	// Bytes of one that is empty.
	Bytes int64
	// Origin is a thin volume of the pool.
	Origin string
	Tags   []string
	// ReadOnly volumes can't be written to.
	ReadOnly, Active bool
}

// CreateThin makes a thin volume or a thin snapshot, at one instant whoever writes to its origin. A name that is taken is
// fault.Exists.
func (g *Group) CreateThin(ctx context.Context, n NewThin) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		made := LogicalVolume{Name: n.Name, Kind: Thin, Segment: string(Thin), Bytes: n.Bytes, Tags: n.Tags, Pool: n.Pool, Origin: n.Origin, Active: n.Active, ReadOnly: n.ReadOnly, ActivationSkipped: true}
		what := []string{"-V", bytesArgument(n.Bytes), "--thinpool", n.Pool, vg.Name}
		if n.Origin != "" {
			origin, err := vg.find(n.Origin)
			if err != nil {
				return change{}, err
			}
			if origin.Kind != Thin || origin.Pool != n.Pool {
				return change{}, fault.New(fault.Precondition, "%s/%s is no thin volume of pool %s", vg.Name, n.Origin, n.Pool)
			}
			made.Bytes = origin.Bytes
			what = []string{"-s", vg.Name + "/" + n.Origin}
		}
		if err := vg.checkNew(n.Name, made.Bytes); err != nil {
			return change{}, err
		}
		tags, err := tagArguments("--addtag", n.Tags)
		if err != nil {
			return change{}, err
		}
		permission := []string(nil)
		if n.ReadOnly {
			permission = []string{"-pr"}
		}
		return change{
			what: "create thin volume " + vg.Name + "/" + n.Name,
			args: slices.Concat([]string{"lvcreate", "--yes", "-n", n.Name}, permission, activation(n.Active), neverByItself(), tags, what),
			// One for the volume, one for what the pool was told.
			rises: 2, apply: func(next *VolumeGroup) { next.put(made) },
			failed: vg.noRoom(n.Name, 0),
		}, nil
	})
}

// SnapshotThick makes a copy-on-write snapshot of a thick volume, with a store of that many bytes for what its origin overwrites
// from then on. It is active when its origin is, and can't be written to.
func (g *Group) SnapshotThick(ctx context.Context, name, origin string, store int64, tags []string) error {
	return g.alter(ctx, func(vg *VolumeGroup) (change, error) {
		if err := vg.checkNew(name, store); err != nil {
			return change{}, err
		}
		if _, err := vg.find(origin); err != nil {
			return change{}, err
		}
		extents := vg.RoundUp(store)
		add, err := tagArguments("--addtag", tags)
		return change{
			what: "create snapshot " + vg.Name + "/" + name,
			args: slices.Concat([]string{"lvcreate", "--yes", "-s", "-pr", "-n", name, "-l", strconv.FormatInt(extents, 10)}, neverByItself(), add,
				[]string{vg.Name + "/" + origin}),
			rises: 2, failed: vg.noRoom(name, extents),
		}, err
	})
}
