package datastore

import (
	"context"
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

// SnapshotTakes returns how many bytes of the pool's promises a snapshot of a volume will take: what the volume holds
// now, unless the pool knows better.
func SnapshotTakes(ctx context.Context, p Pool, of, snap Volume) (int64, error) {
	if knows, ok := unwrap(p).(interface {
		SnapshotTakes(ctx context.Context, of, snap Volume) (int64, error)
	}); ok {
		return knows.SnapshotTakes(ctx, of, snap)
	}
	made, err := p.Find(ctx, of)
	return made.Promised, err
}

// FreezesItself tells whether a pool brings a mounted file system to rest by itself for the instant of a snapshot. Where somebody
// else has done so before, it fails.
func FreezesItself(p Pool) bool {
	does, ok := unwrap(p).(interface{ FreezesItself() bool })
	return ok && does.FreezesItself()
}
