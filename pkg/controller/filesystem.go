package controller

import (
	"cmp"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// wish is what a request says of a volume's file system.
type wish struct {
	// name of the file system that an image gets; "" for raw block.
	name string
	// explicit is the name that was asked for by the capability or a parameter, or "".
	explicit string
	// options for the tool that makes it, and whether any were asked for.
	options []string
	tuned   bool
	// flags that it is to be mounted with; not yet checked.
	flags []string
}

// resolveFilesystem decides the file system of a mounted volume: the capability's wins, the parameter
// must be equal or stand alone. Otherwise it is that of the source, or ext4.
func resolveFilesystem(q CreateRequest, p parameters, from *origin) (wish, error) {
	w := wish{tuned: p.mkfsOptions != "", flags: q.MountFlags}
	if p.filesystem != "" {
		if _, err := filesystem.ParseType(p.filesystem); err != nil {
			return w, fault.Wrap(err, "read parameter", paramFilesystem)
		}
	}
	switch {
	case w.tuned && from != nil:
		return w, fault.New(fault.Invalid, "parameter %q is of no use to a copy, which has the file system of its source", paramMkfsOptions)
	case w.tuned && q.Access.Type == v1alpha1.Block:
		return w, fault.New(fault.Invalid, "parameter %q is of no use to a raw block volume", paramMkfsOptions)
	case q.Access.Type == v1alpha1.Block:
		return w, nil
	case q.Filesystem != "" && p.filesystem != "" && q.Filesystem != p.filesystem:
		return w, fault.New(fault.Invalid, "the capability asks for file system %.100q, parameter %q for %.100q; give one",
			q.Filesystem, paramFilesystem, p.filesystem)
	}
	w.explicit = cmp.Or(q.Filesystem, p.filesystem)
	t, err := filesystem.ParseType(cmp.Or(w.explicit, from.filesystemType(), string(filesystem.Ext4)))
	if err != nil {
		return w, fault.As(fault.Invalid, err)
	}
	w.name = string(t)
	w.options, err = filesystem.ParseMkfsOptions(t, p.mkfsOptions)
	return w, fault.Wrap(err, "read parameter", paramMkfsOptions)
}
