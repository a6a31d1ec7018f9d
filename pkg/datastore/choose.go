package datastore

import "context"

// Choose asks a pool of a type whose storage has no room for a mark for the place of a new volume, which is to be in the
// volume's record before anything is done there: from then on it is Volume.Location. Others are the volumes of the pool
// whose records name a place. Nothing is changed on the storage. No place is fault.Exhausted. Other types choose for
// themselves: "".
//
// A pool that chooses is asked for one volume at a time.
func Choose(ctx context.Context, p Pool, v Volume, from *Volume, others []Volume) (location string, err error) {
	chooses, ok := unwrap(p).(interface {
		Choose(ctx context.Context, v Volume, from *Volume, others []Volume) (string, error)
	})
	if !ok {
		return "", nil
	}
	return chooses.Choose(ctx, v, from, others)
}
