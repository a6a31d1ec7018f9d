package driver

import (
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// use is a volume capability, understood.
type use struct {
	access     v1alpha1.AccessType
	mode       string
	filesystem string
	flags      []string
}

func (u use) domain() controller.Use {
	return controller.Use{Access: u.access, Mode: u.mode, Filesystem: u.filesystem, MountFlags: u.flags}
}

// maxMountFlags bounds what is read of a capability.
const maxMountFlags = 64

// readCapability understands one volume capability.
func readCapability(c *csi.VolumeCapability) (use, error) {
	if c == nil {
		return use{}, fault.New(fault.Invalid, "the volume capability is missing")
	}
	u := use{mode: c.GetAccessMode().GetMode().String()}
	if _, known := csi.VolumeCapability_AccessMode_Mode_value[u.mode]; !known ||
		c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN {
		return use{}, fault.New(fault.Invalid, "access mode %s is not known", u.mode)
	}
	switch access := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		u.access = v1alpha1.Block
	case *csi.VolumeCapability_Mount:
		u.access, u.filesystem, u.flags = v1alpha1.Filesystem, access.Mount.GetFsType(), access.Mount.GetMountFlags()
		if access.Mount.GetVolumeMountGroup() != "" {
			return use{}, fault.New(fault.Invalid, "volume_mount_group is not served; the group is set on the files instead (fsGroup)")
		}
	default:
		return use{}, fault.New(fault.Invalid, "the access type of the volume capability is missing; it is mount or block")
	}
	if len(u.flags) > maxMountFlags {
		return use{}, fault.New(fault.Invalid, "%d mount flags, %d are allowed", len(u.flags), maxMountFlags)
	}
	return u, nil
}

// wanted are the capabilities of a new volume, together.
type wanted struct {
	access     v1alpha1.VolumeAccess
	filesystem string
	flags      []string
}

// readCapabilities understands the capabilities that a volume must have all at once.
func readCapabilities(in []*csi.VolumeCapability) (wanted, error) {
	var out wanted
	if len(in) == 0 {
		return out, fault.New(fault.Invalid, "the volume capabilities are missing")
	}
	for i, c := range in {
		u, err := readCapability(c)
		if err != nil {
			return out, err
		}
		if i == 0 {
			out.access.Type, out.filesystem = u.access, u.filesystem
		}
		if u.access != out.access.Type {
			return out, fault.New(fault.Invalid, "a volume has access mount or block, not both")
		}
		if u.filesystem != out.filesystem {
			return out, fault.New(fault.Invalid, "a volume has one file system, not %q and %q", out.filesystem, u.filesystem)
		}
		out.access.Modes = append(out.access.Modes, u.mode)
		out.flags = append(out.flags, u.flags...)
	}
	slices.Sort(out.access.Modes)
	out.access.Modes = slices.Compact(out.access.Modes)
	return out, nil
}

// hosts are the topology values of our key, in their order. Topologies without our key are of other
// drivers: where there are only such, no host of ours is meant, and "" stands for that.
func hosts(in []*csi.Topology) []string {
	var out []string
	for _, t := range in {
		if h := t.GetSegments()[v1alpha1.TopologyKey]; h != "" {
			out = append(out, h)
		}
	}
	if len(in) > 0 && len(out) == 0 {
		return []string{""}
	}
	return out
}

// topology reads from where something must be usable.
func topology(r *csi.TopologyRequirement) controller.Topology {
	return controller.Topology{Requisite: hosts(r.GetRequisite()), Preferred: hosts(r.GetPreferred())}
}

// accessible is the topology of volumes on a host.
func accessible(host string) []*csi.Topology {
	return []*csi.Topology{{Segments: map[string]string{v1alpha1.TopologyKey: v1alpha1.HostSegment(host)}}}
}

// single tells whether a mode is one of a single node.
func single(mode string) bool { return strings.HasPrefix(mode, "SINGLE_NODE_") }
