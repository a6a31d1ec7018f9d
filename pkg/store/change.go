package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

var errUnchanged = fault.New(fault.Internal, "unchanged")

// Unchanged is what the function given to Change or ChangeStatus returns where the record is already as
// it should be: nothing is written then, and the record is returned as it is.
func Unchanged() error { return errUnchanged }

// longestPause bounds the wait between two tries of a change.
const longestPause = 256 * time.Millisecond

// Change gets a record, lets alter change a copy of it, and writes the copy's spec and metadata; where
// another write came between, it begins again, after a pause where that happens more than once. An error of
// alter ends it and is returned as it is.
func Change[T any, P Record[T]](ctx context.Context, t Table[T], name string, alter func(*T) error) (*T, error) {
	return change[T, P](ctx, t, name, alter, t.Update)
}

// ChangeStatus is Change for the status.
func ChangeStatus[T any, P Record[T]](ctx context.Context, t Table[T], name string, alter func(*T) error) (*T, error) {
	return change[T, P](ctx, t, name, alter, t.UpdateStatus)
}

func change[T any, P Record[T]](ctx context.Context, t Table[T], name string, alter func(*T) error,
	write func(context.Context, *T) (*T, error),
) (*T, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		old, err := t.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		record := P(old).DeepCopy()
		if err := alter(record); errors.Is(err, errUnchanged) {
			return old, nil
		} else if err != nil {
			return nil, err
		}
		written, err := write(ctx, record)
		if !fault.Is(err, fault.Conflict) || ctx.Err() != nil {
			return written, err
		}
		if pause > time.Millisecond {
			rest(ctx, rand.N(pause))
		}
	}
}

// rest waits, no longer than ctx.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Wait watches one record until done says so, and returns the version that it was satisfied with. A
// record that is gone is given as nil. An error of done ends the wait and is returned as it is.
//
// Done is only ever shown what Get found just then, never an older version from a watch that lags; the
// same one may be shown twice.
func Wait[T any](ctx context.Context, t Table[T], name string, done func(*T) (bool, error)) (*T, error) {
	w, err := t.Watch(ctx, name)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for {
		record, err := t.Get(ctx, name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if ok, err := done(record); ok || err != nil {
			return record, err
		}
		for news := false; !news; {
			event, err := w.Next(ctx)
			if err != nil {
				return nil, err
			}
			news = !sameVersion(event.Record, record)
		}
	}
}

// sameVersion tells whether two versions of a record, or its absence, are the same.
func sameVersion[T any](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, ok := any(a).(metav1.Object)
	y, also := any(b).(metav1.Object)
	return ok && also && x.GetUID() == y.GetUID() && x.GetResourceVersion() == y.GetResourceVersion()
}
