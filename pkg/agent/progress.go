package agent

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// progressEvery bounds how often the progress of a copy is written.
const progressEvery = 5 * time.Second

// progress keeps how far a copy is in its record: with its first word the phase becomes Creating.
type progress struct {
	news  chan struct{}
	done  chan struct{}
	ended chan struct{}
	write func(v1alpha1.Progress)

	mu   sync.Mutex
	last v1alpha1.Progress
}

// follow begins to keep the progress of a subject's copy, until stop.
func (a *Agent) follow(ctx context.Context, s *subject) *progress {
	begun := metav1.NewTime(a.config.Now())
	return newProgress(progressEvery, func(p v1alpha1.Progress) {
		err := a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) {
			w.Phase, w.Progress, w.Failure = v1alpha1.Creating, &p, nil
			if !s.Snapshot {
				return
			}
			w.Promised = v1alpha1.Bytes(a.ledger(s.on).Held(s.Key()))
			if w.TakenAt == nil {
				w.TakenAt = &begun // its source is at rest until the copy is whole
			}
		})
		if err != nil && ctx.Err() == nil {
			logger(ctx).Error(err, "Writing the progress of a copy failed", "key", s.Key(), "datastore", s.on)
		}
		if err == nil {
			s.status = s.status.DeepCopy()
			s.status.Phase = v1alpha1.Creating
		}
	})
}

func newProgress(every time.Duration, write func(v1alpha1.Progress)) *progress {
	p := &progress{news: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}), write: write}
	go p.run(every)
	return p
}

// tell is the pool's datastore.Progress.
func (p *progress) tell(done, total int64) {
	p.mu.Lock()
	p.last = v1alpha1.Progress{Done: v1alpha1.Bytes(done), Total: v1alpha1.Bytes(total)}
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// run writes what is new, the first at once.
func (p *progress) run(every time.Duration) {
	defer close(p.ended)
	for {
		select {
		case <-p.done:
			return
		case <-p.news:
		}
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		p.write(last)
		pause := time.NewTimer(every)
		select {
		case <-p.done:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// stop ends it; nothing is written afterwards.
func (p *progress) stop() {
	close(p.done)
	<-p.ended
}
