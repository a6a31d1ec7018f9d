package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// mayWipe refuses zeroes: names and attributes can't be overwritten, and who shrinks or removes a file while the
// volume is in use gives its blocks back at once.
func (b *trees) mayWipe(root *file.Root, w v1alpha1.WipePolicy) error {
	if w != v1alpha1.WipeZero {
		return nil
	}
	return fault.New(fault.Invalid, "wipe %q can't be held for sub-directories (%s): files that were removed while the volume was in use are free already; "+
		"set wipe to none or discard, or use format image", w, root.Path())
}

// wipe leaves the files to empty: their blocks are given back as they are removed.
func (b *trees) wipe(context.Context, *file.Root, string, order) error { return nil }
