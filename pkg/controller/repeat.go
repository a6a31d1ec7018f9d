package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// repeats says how an existing volume is not what is asked for, as fault.Exists; where the request could never be
// met, that is said instead.
func repeats(v *v1alpha1.DatastoreVolume, q CreateRequest) error {
	what := differs(v, q)
	if what == "" {
		return nil
	}
	p, err := parseParameters(q.Parameters)
	if err != nil {
		return err
	}
	if _, err := parseMutable(q.Mutable); err != nil {
		return err
	}
	if q.Source == nil {
		if _, err := resolveFilesystem(q, p, nil); err != nil {
			return err
		}
	}
	return fault.New(fault.Exists, "volume %q (%d bytes on datastore %q) exists with another %s; delete it or choose another name",
		v.Name, v.Spec.Size.Value(), v.Spec.Datastore, what)
}

// differs names what of a volume is not as asked for; "" is nothing. It does not judge the request: what could
// be asked for when the volume was made may be refused today, and may have been modified since.
func differs(v *v1alpha1.DatastoreVolume, q CreateRequest) string {
	switch {
	case v.Spec.Name != q.Name:
		return "name"
	case !q.Range.holds(v.Spec.Size.Value()):
		return "size"
	case v.Spec.Access.Type != q.Access.Type || !slices.Equal(v.Spec.Access.Modes, q.Access.Modes):
		return "capabilities"
	case !sameFilesystem(v, q):
		return "file system"
	case !maps.Equal(v.Spec.Parameters, ownParameters(q.Parameters)):
		return "parameters"
	case !sameMutable(v, q.Mutable):
		return "mutable parameters"
	case !sameSource(v.Spec.Source, q.Source):
		return "content source"
	case !q.Topology.allows(v.Spec.Worker.Host):
		return "accessibility requirements"
	}
	return ""
}

// sameFilesystem compares what was asked for by name. Where nothing was, an image has ext4 and a copy what its
// source has; a sub-directory has none, and none can be asked for.
func sameFilesystem(v *v1alpha1.DatastoreVolume, q CreateRequest) bool {
	asked := cmp.Or(q.Filesystem, q.Parameters[paramFilesystem])
	switch {
	case v.Spec.Access.Type == v1alpha1.Block:
		return true
	case v.Spec.Filesystem == nil:
		return asked == ""
	case asked == "" && v.Spec.Source != nil:
		return true
	}
	return v.Spec.Filesystem.Type == cmp.Or(asked, string(filesystem.Ext4))
}

// sameMutable tells whether a volume has what is asked for: it was made with just that, or has each value that is named
// now (CSI specification, CreateVolume: "compatible with the specified ... mutable_parameters").
func sameMutable(v *v1alpha1.DatastoreVolume, asked map[string]string) bool {
	if maps.Equal(v.Spec.MutableParameters, asked) {
		return true
	}
	m, err := parseMutable(asked)
	return err == nil && m.hold(v)
}

func sameSource(has *v1alpha1.VolumeSource, asked *Source) bool {
	if has == nil || asked == nil {
		return has == nil && asked == nil
	}
	return has.Kind == asked.Kind && has.Name == asked.ID
}
