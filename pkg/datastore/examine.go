package datastore

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Examine tells what is wrong with a volume on its storage, now, as List does, and changes nothing. It waits for no
// other call about the volume. A pool of a type that can't tell knows of nothing.
func Examine(ctx context.Context, p Pool, v Volume) ([]v1alpha1.Problem, error) {
	knows, ok := unwrap(p).(interface {
		Examine(context.Context, Volume) ([]v1alpha1.Problem, error)
	})
	if !ok {
		return nil, nil
	}
	return knows.Examine(ctx, v)
}
