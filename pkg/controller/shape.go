package controller

import (
	"cmp"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// shape is the volume as it would be on a datastore: what the request leaves open is the datastore's, and
// what it is decides what else may be asked for.
func (d demand) shape(on v1alpha1.DatastoreSpec) (datastore.Volume, error) {
	v, defaults := d.volume, on.Volumes
	v.Format = cmp.Or(v.Format, defaults.Format)
	v.Wipe = cmp.Or(v.Wipe, defaults.Wipe)
	if on.LVM != nil {
		v.Redundancy = cmp.Or(v.Redundancy, on.LVM.Defaults.Redundancy)
		v.Stripes = cmp.Or(v.Stripes, int(on.LVM.Defaults.Stripes))
	}
	if v.Format == v1alpha1.FormatSubdirectory {
		return d.subdirectory(v)
	}
	if v.Quota != "" {
		return v, fault.New(fault.Invalid, "parameter %q is for format subdirectory; the size of an image is always enforced", paramQuota)
	}
	v.Provisioning = cmp.Or(v.Provisioning, defaults.Provisioning)
	if v.Filesystem == nil {
		return v, nil
	}
	_, err := filesystem.MountOptions(filesystem.Type(v.Filesystem.Type), d.wish.flags)
	return v, err
}

// subdirectory is the shape of a volume that is a directory of its datastore's file system.
func (d demand) subdirectory(v datastore.Volume) (datastore.Volume, error) {
	what := ""
	switch {
	case v.Access == v1alpha1.Block:
		return v, fault.New(fault.Invalid, "a sub-directory (format subdirectory) can't be a raw block volume; ask for format image")
	case d.wish.explicit != "":
		what = "file system " + d.wish.explicit
	case d.wish.tuned:
		what = "parameter " + paramMkfsOptions
	case v.Provisioning == v1alpha1.Thick:
		what = paramProvisioning + " thick"
	}
	if what != "" {
		return v, fault.New(fault.Invalid, "%s can't be had: a sub-directory (format subdirectory) has the file system of its datastore; "+
			"leave it out, or ask for format image", what)
	}
	v.Filesystem, v.Provisioning = nil, v1alpha1.Thin
	v.Quota = cmp.Or(v.Quota, v1alpha1.QuotaRequired)
	_, err := filesystem.MountOptions(filesystem.Tree, d.wish.flags)
	return v, err
}

// leastBytes is the size of the smallest volume of a shape. A sub-directory needs no file system of its own.
func leastBytes(c datastore.Capabilities, v datastore.Volume) int64 {
	switch {
	case v.Format == v1alpha1.FormatSubdirectory:
		return c.Granularity
	case v.Filesystem == nil:
		return c.MinBytes("")
	}
	return c.MinBytes(v.Filesystem.Type)
}
