// Package step marks each change that the driver makes to the world, so that a test can stop the
// process between any two of them.
//
// Do stands where changes are made and nowhere else: in pkg/linux (tools that change things, changing
// system calls) and in the store's writes. The hook travels in the context; without one, Do is a
// plain call. The shipped binary never sets a hook.
package step

import "context"

// Hook is told of each change just before it is made: the volume that the work is for ("" where it is
// for none) and what is about to be changed. It is called by many goroutines.
type Hook func(volume, what string)

type (
	hookKey   struct{}
	volumeKey struct{}
)

// WithHook returns a context whose steps are told to h. A nil h returns ctx as it is.
func WithHook(ctx context.Context, h Hook) context.Context {
	if h == nil {
		return ctx
	}
	return context.WithValue(ctx, hookKey{}, h)
}

// WithVolume returns a context whose steps belong to the volume of that ID.
func WithVolume(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, volumeKey{}, id)
}

// Volume returns the ID given to WithVolume, or "".
func Volume(ctx context.Context) string {
	id, _ := ctx.Value(volumeKey{}).(string)
	return id
}

// Do makes one change of the world and returns its error. What names the change for a person who reads
// the list of points.
func Do(ctx context.Context, what string, change func() error) error {
	if h, ok := ctx.Value(hookKey{}).(Hook); ok {
		h(Volume(ctx), what)
	}
	return change()
}
