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
	mu sync.Mutex
	// held counts the calls that copy from a volume; alone is one that works on it.
	held map[string]int
}

// alone stands for a call that shares a volume with no other.
const alone = -1

func newInUse() inUse { return inUse{held: map[string]int{}} }

// hold makes the caller the only one that works on a volume or, where shared is set, one of several that
// copy from it.
func (u *inUse) hold(key string, shared bool) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := u.held[key]; n == alone || (n > 0 && !shared) {
		return nil, fault.New(fault.Busy, "%q: other work on it is under way; try again", key)
	}
	if shared {
		u.held[key]++
	} else {
		u.held[key] = alone
	}
	return func() { u.release(key, shared) }, nil
}

func (u *inUse) release(key string, shared bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if shared && u.held[key] > 1 {
		u.held[key]--
		return
	}
	delete(u.held, key)
}

func held[T any](e *exclusive, key string, work func() (T, error)) (T, error) {
	return while(e, key, false, work)
}

// copying holds what is copied, or looked at: it is neither removed, grown nor opened meanwhile.
func copying[T any](e *exclusive, source string, work func() (T, error)) (T, error) {
	return while(e, source, true, work)
}

func while[T any](e *exclusive, key string, shared bool, work func() (T, error)) (T, error) {
	release, err := e.hold(key, shared)
	if err != nil {
		var none T
		return none, err
	}
	defer release()
	return work()
}

func (e *exclusive) Create(ctx context.Context, v Volume, from *Volume, p Progress) (Made, error) {
	return held(e, v.Key(), func() (Made, error) {
		if from == nil {
			return e.Pool.Create(ctx, v, nil, p)
		}
		return copying(e, from.Key(), func() (Made, error) { return e.Pool.Create(ctx, v, from, p) })
	})
}

func (e *exclusive) Snapshot(ctx context.Context, of, snap Volume, p Progress) (Made, error) {
	return held(e, snap.Key(), func() (Made, error) {
		return copying(e, of.Key(), func() (Made, error) { return e.Pool.Snapshot(ctx, of, snap, p) })
	})
}

func (e *exclusive) Find(ctx context.Context, v Volume) (Made, error) {
	return copying(e, v.Key(), func() (Made, error) { return e.Pool.Find(ctx, v) })
}

func (e *exclusive) Expand(ctx context.Context, v Volume) (Made, error) {
	return held(e, v.Key(), func() (Made, error) { return e.Pool.Expand(ctx, v) })
}

func (e *exclusive) Open(ctx context.Context, v Volume, readOnly bool) (Opened, error) {
	return held(e, v.Key(), func() (Opened, error) { return e.Pool.Open(ctx, v, readOnly) })
}

func (e *exclusive) Close(ctx context.Context, v Volume) error {
	_, err := held(e, v.Key(), func() (struct{}, error) { return struct{}{}, e.Pool.Close(ctx, v) })
	return err
}

func (e *exclusive) Delete(ctx context.Context, v Volume, d Disposal) error {
	_, err := held(e, v.Key(), func() (struct{}, error) { return struct{}{}, e.Pool.Delete(ctx, v, d) })
	return err
}
