package agent

import (
	"cmp"
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// create makes a volume or a snapshot, and says that it is Ready.
func (a *Agent) create(ctx context.Context, s *subject) error {
	pool, err := a.config.Set.Pool(ctx, s.on)
	if err != nil {
		return a.finishWithoutDatastore(ctx, s, v1alpha1.Rejected, err)
	}
	// The pool's identity is kept before anything lies on it: from then on an empty mount point is never
	// taken for the pool.
	if err := a.reportPool(ctx, s.on); err != nil {
		return err
	}
	made, err := a.make(ctx, pool, s)
	if s.final(err) {
		return a.reject(ctx, pool, s, err)
	}
	if err != nil {
		a.reclaimSoon(s.on) // what it left may be in the way of the next try
		return err
	}
	says := s.marked()
	if s.generation > 1 {
		// An earlier try may have written the mark before the record was modified: it is brought up to it next.
		says = v1alpha1.Marked{}
	}
	err = a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) {
		w.Phase, w.Progress, w.Failure = v1alpha1.Ready, nil, nil
		w.Size, w.Location, w.Identity = v1alpha1.Bytes(made.Bytes), made.Location, made.Identity
		if !s.Snapshot {
			w.Marked, w.Promised = &says, v1alpha1.Bytes(made.Takes)
			return
		}
		w.Promised = v1alpha1.Bytes(made.Promised)
		if w.TakenAt == nil { // not said already: its caller knows it since the copy began
			taken := metav1.NewTime(made.TakenAt)
			w.TakenAt = &taken
		}
	})
	if err == nil && !s.Snapshot && s.marked() != says {
		a.queue.Add(s.on, s.Key())
	}
	return err
}

// final tells whether an error of its making ends a subject for good. A snapshot whose copy has begun was
// promised to its caller already: it is tried again until somebody deletes it.
func (s *subject) final(err error) bool {
	if s.Snapshot && s.status.Phase == v1alpha1.Creating {
		return false
	}
	switch {
	case fault.Is(err, fault.Exhausted), fault.Is(err, fault.Invalid), fault.Is(err, fault.OutOfRange):
		return true
	case fault.Is(err, fault.Precondition), fault.Is(err, fault.NotFound), fault.Is(err, fault.DataLoss):
		return s.source != nil // it is in use, or gone
	}
	return false
}

// make makes a subject where there is room. One that was made already, by a try that died before it could
// say so, has its room and is never judged again.
func (a *Agent) make(ctx context.Context, pool datastore.Pool, s *subject) (datastore.Made, error) {
	if err := a.choose(ctx, pool, s); err != nil {
		return datastore.Made{}, err
	}
	if s.source != nil {
		if made, err := a.recall(ctx, pool, s); !fault.Is(err, fault.NotFound) {
			return made, err
		}
		return a.copy(ctx, pool, s)
	}
	refused := a.reserve(ctx, s, s.Takes())
	if refused == nil {
		made, err := pool.Create(ctx, s.Volume, nil, nil)
		if err == nil && made.Takes != 0 {
			a.ledger(s.on).Set(s.Key(), s.share(made))
		}
		return made, err
	}
	if fault.Is(refused, fault.Exhausted) {
		if made, err := a.recall(ctx, pool, s); !fault.Is(err, fault.NotFound) {
			return made, err
		}
	}
	return datastore.Made{}, refused
}

// recall finds what an earlier try made, and promises it its space whatever the limits.
func (a *Agent) recall(ctx context.Context, pool datastore.Pool, s *subject) (datastore.Made, error) {
	made, err := pool.Find(ctx, s.Volume)
	if err == nil {
		a.ledger(s.on).Set(s.Key(), s.share(made))
	}
	return made, err
}

// share is what of its pool's promises a subject takes that was made.
func (s *subject) share(made datastore.Made) int64 {
	if s.Snapshot {
		return made.Promised
	}
	return cmp.Or(made.Takes, made.Bytes)
}

// reject refuses a subject for good, of which nothing is there. What an earlier try left half made is removed.
func (a *Agent) reject(ctx context.Context, pool datastore.Pool, s *subject, why error) error {
	if err := pool.Delete(ctx, s.Volume, datastore.Disposal{Policy: v1alpha1.DeleteData}); err != nil {
		return err
	}
	a.ledger(s.on).Release(s.Key())
	a.reclaimSoon(s.on)
	logger(ctx).Info("Rejected a "+s.kind(), "key", s.Key(), "datastore", s.on, "reason", why.Error())
	return a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) {
		w.Phase, w.Progress, w.Failure = v1alpha1.Rejected, nil, failure(why, s.generation)
	})
}
