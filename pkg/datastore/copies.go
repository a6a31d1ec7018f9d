package datastore

import (
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// CopiesInUse tells whether a pool with those features copies volumes of a format at one instant, so that
// they may be in use meanwhile. Otherwise the source must be detached, and a copy takes its time.
func CopiesInUse(format v1alpha1.VolumeFormat, features []v1alpha1.Feature) bool {
	if format == v1alpha1.FormatSubdirectory {
		return slices.Contains(features, v1alpha1.SubdirectorySnapshots)
	}
	return slices.Contains(features, v1alpha1.InstantCopies)
}
