package v1alpha1

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of what block pools can have.
const (
	maxDevices    = 256
	maxVGName     = 127 // NAME_LEN less the NUL, lvm2's lib/metadata/metadata-exported.h
	maxMountWords = 32
	minChunk      = 64 << 10 // lvmthin(7), chunk size
	maxChunk      = 1 << 30
	minThreshold  = 50 // lvm.conf(5), thin_pool_autoextend_threshold
	maxStripes    = 128
)

// validateSettings checks the settings of the type, and that there are none of another.
func (s *DatastoreSpec) validateSettings(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, one := range []struct {
		of    DatastoreType
		given bool
		check func(*field.Path) field.ErrorList
	}{
		{TypeDirectory, s.Directory != nil, s.Directory.validate},
		{TypePartition, s.Partition != nil, s.Partition.validate},
		{TypeDisk, s.Disk != nil, s.Disk.validate},
		{TypeLVM, s.LVM != nil, s.LVM.validate},
	} {
		at := p.Child(string(one.of))
		switch {
		case one.given && s.Type == one.of:
			errs = append(errs, one.check(at)...)
		case one.given:
			errs = append(errs, field.Forbidden(at, "these are the settings of type "+string(one.of)+", and the type is "+strconv.Quote(string(s.Type))))
		case s.Type == one.of:
			errs = append(errs, field.Required(at, "the settings of type "+string(one.of)))
		}
	}
	return errs
}

func (s *PartitionSpec) validate(p *field.Path) field.ErrorList {
	errs := devicePath(p.Child("device"), s.Device)
	errs = append(errs, oneOf(p.Child("fsType"), s.FSType, "", "ext4", "xfs", "btrfs")...)
	errs = append(errs, oneOf(p.Child("provision"), s.Provision, ProvisionNever, ProvisionIfEmpty)...)
	if s.Provision == ProvisionIfEmpty && s.FSType == "" {
		errs = append(errs, field.Required(p.Child("fsType"), "which file system to make on a blank device"))
	}
	if len(s.MountOptions) > maxMountWords {
		errs = append(errs, field.TooMany(p.Child("mountOptions"), len(s.MountOptions), maxMountWords))
	}
	return append(errs, machineID(p.Child("adoptFrom"), s.AdoptFrom)...)
}

func (s *DiskSpec) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.Devices) == 0 {
		errs = append(errs, field.Required(p.Child("devices"), "at least one disk, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4"))
	}
	errs = append(errs, devicePaths(p.Child("devices"), s.Devices)...)
	return append(errs, machineID(p.Child("adoptFrom"), s.AdoptFrom)...)
}

func (s *LVMSpec) validate(p *field.Path) field.ErrorList {
	errs := lvmName(p.Child("volumeGroup"), s.VolumeGroup)
	errs = append(errs, devicePaths(p.Child("devices"), s.Devices)...)
	errs = append(errs, oneOf(p.Child("provision"), s.Provision, ProvisionNever, ProvisionIfEmpty)...)
	if s.Provision == ProvisionIfEmpty && len(s.Devices) == 0 {
		errs = append(errs, field.Required(p.Child("devices"), "the devices to make the volume group of"))
	}
	if s.ThinPool != nil {
		errs = append(errs, s.ThinPool.validate(p.Child("thinPool"))...)
	}
	errs = append(errs, s.Defaults.validate(p.Child("defaults"), s.ThinPool != nil)...)
	return append(errs, machineID(p.Child("adoptFrom"), s.AdoptFrom)...)
}

func (t *ThinPoolSpec) validate(p *field.Path) field.ErrorList {
	errs := lvmName(p.Child("name"), t.Name)
	errs = append(errs, ShareOrBytes(t.Size).validate(p.Child("size"))...)
	if m := t.MetadataSize; m != nil && m.Sign() <= 0 {
		errs = append(errs, field.Invalid(p.Child("metadataSize"), m.String(), "a quantity of bytes, more than 0"))
	}
	if c := t.ChunkSize; c != nil && (c.Value() < minChunk || c.Value() > maxChunk || c.Value()%minChunk != 0) {
		errs = append(errs, field.Invalid(p.Child("chunkSize"), c.String(), "from 64Ki to 1Gi, a multiple of 64Ki"))
	}
	if a := t.AutoExtend; a != nil {
		at := p.Child("autoExtend")
		if a.Threshold != 0 {
			errs = append(errs, between(at.Child("threshold"), &a.Threshold, minThreshold, 99)...)
		}
		if a.By != 0 {
			errs = append(errs, between(at.Child("by"), &a.By, 1, 100)...)
		}
		errs = append(errs, ShareOrBytes(a.Max).validate(at.Child("max"))...)
	}
	return errs
}

func (d *LVMDefaults) validate(p *field.Path, thin bool) field.ErrorList {
	errs := oneOf(p.Child("redundancy"), d.Redundancy, "", RedundancyNone, Mirror, Parity, DoubleParity)
	if d.Stripes != 0 {
		errs = append(errs, between(p.Child("stripes"), &d.Stripes, 1, maxStripes)...)
	}
	errs = append(errs, ShareOrBytes(d.SnapshotSize).validate(p.Child("snapshotSize"))...)
	if thin && *d != (LVMDefaults{}) {
		errs = append(errs, field.Forbidden(p, "volumes in a thin pool have the layout of the pool, and their snapshots share its space"))
	}
	return errs
}

// lvmWord is what LVM takes as the name of a volume group or logical volume: lvm(8), VALID NAMES.
var lvmWord = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$`)

func lvmName(p *field.Path, s string) field.ErrorList {
	switch {
	case s == "":
		return field.ErrorList{field.Required(p, "a name, such as vg0")}
	case len(s) > maxVGName:
		return field.ErrorList{field.TooLong(p, s[:64]+"…", maxVGName)}
	case s == "." || s == ".." || !lvmWord.MatchString(s):
		return field.ErrorList{field.Invalid(p, s, "letters, digits, '+', '_', '.' and '-', not beginning with '-' (lvm(8))")}
	}
	return nil
}

func devicePaths(p *field.Path, list []string) field.ErrorList {
	if len(list) > maxDevices {
		return field.ErrorList{field.TooMany(p, len(list), maxDevices)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range list {
		errs = append(errs, devicePath(p.Index(i), s)...)
		if seen[s] {
			errs = append(errs, field.Duplicate(p.Index(i), s))
		}
		seen[s] = true
	}
	return errs
}

// numbered are names that the kernel gives in the order in which it finds devices, which may be another at the next
// boot.
var numbered = regexp.MustCompile(`^/dev/(sd[a-z]+[0-9]*|hd[a-z]+[0-9]*|vd[a-z]+[0-9]*|xvd[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(p[0-9]+)?|mmcblk[0-9]+(p[0-9]+)?|dm-[0-9]+|md[0-9]+(p[0-9]+)?)$`)

func devicePath(p *field.Path, s string) field.ErrorList {
	why := ""
	switch {
	case s == "":
		return field.ErrorList{field.Required(p, "a device, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4")}
	case len(s) > maxPathBytes:
		return field.ErrorList{field.TooLong(p, s[:64]+"…", maxPathBytes)}
	case strings.ContainsRune(s, 0):
		why = "must not contain NUL"
	case path.Clean(s) != s || !strings.HasPrefix(s, "/dev/"):
		why = "must be a path below /dev, written without '.', '..' and empty parts"
	case numbered.MatchString(s):
		why = "may be another device after the next boot; use a name that stays, a link in /dev/disk/by-id, /dev/disk/by-partuuid or /dev/disk/by-path"
	}
	if why == "" {
		return nil
	}
	return field.ErrorList{field.Invalid(p, s, why)}
}

// ShareOrBytes is a share of something ("20%") or a quantity of bytes ("20Gi"); "" is neither.
//
// +kubebuilder:object:generate=false
type ShareOrBytes string

// Of returns the bytes that it is of so many, and whether it says anything. What is neither is an error.
func (s ShareOrBytes) Of(total int64) (bytes int64, given bool, err error) {
	if s == "" {
		return 0, false, nil
	}
	if digits, ok := strings.CutSuffix(string(s), "%"); ok {
		percent, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || percent < 1 || percent > 100 {
			return 0, true, fmt.Errorf("%q is not a share from 1%% to 100%%", string(s))
		}
		return Percent(total, int32(percent)), true, nil
	}
	q, err := resource.ParseQuantity(string(s))
	if err != nil || q.Sign() <= 0 {
		return 0, true, fmt.Errorf("%q is neither a share (20%%) nor a quantity of bytes (20Gi)", string(s))
	}
	return q.Value(), true, nil
}

func (s ShareOrBytes) validate(p *field.Path) field.ErrorList {
	if _, _, err := s.Of(0); err != nil {
		return field.ErrorList{field.Invalid(p, string(s), err.Error())}
	}
	return nil
}
