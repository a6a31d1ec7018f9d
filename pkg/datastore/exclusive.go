package datastore

import (
	"context"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// exclusive lets one call at a time work on a volume of a pool; a second one is fault.Busy at once, since
// a caller that waits on a lock cannot be cancelled. Calls on different volumes do not wait for each other.
type exclusive struct {
	Pool
	*inUse
}

// inUse are the volumes that a call works on. It outlives the pool that is opened anew for a changed spec.
type inUse struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (u *inUse) hold(id string) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids[id] {
		return nil, fault.New(fault.Busy, "volume %q: other work on it is under way; try again", id)
	}
	u.ids[id] = true
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.ids, id)
	}, nil
}

func held[T any](e *exclusive, id string, work func() (T, error)) (T, error) {
	release, err := e.hold(id)
	if err != nil {
		var none T
		return none, err
	}
	defer release()
	return work()
}

func (e *exclusive) Create(ctx context.Context, v Volume) (Made, error) {
	return held(e, v.ID, func() (Made, error) { return e.Pool.Create(ctx, v) })
}

func (e *exclusive) Find(ctx context.Context, v Volume) (Made, error) {
	return held(e, v.ID, func() (Made, error) { return e.Pool.Find(ctx, v) })
}

func (e *exclusive) Expand(ctx context.Context, v Volume) (Made, error) {
	return held(e, v.ID, func() (Made, error) { return e.Pool.Expand(ctx, v) })
}

func (e *exclusive) Open(ctx context.Context, v Volume, readOnly bool) (Opened, error) {
	return held(e, v.ID, func() (Opened, error) { return e.Pool.Open(ctx, v, readOnly) })
}

func (e *exclusive) Close(ctx context.Context, v Volume) error {
	_, err := held(e, v.ID, func() (struct{}, error) { return struct{}{}, e.Pool.Close(ctx, v) })
	return err
}

func (e *exclusive) Delete(ctx context.Context, v Volume) error {
	_, err := held(e, v.ID, func() (struct{}, error) { return struct{}{}, e.Pool.Delete(ctx, v) })
	return err
}
