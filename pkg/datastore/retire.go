package datastore

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// retirement is the end of a datastore that was removed. A new one of its name waits for it.
type retirement struct {
	// hurry is closed once there is a new one, ended when it has ended.
	hurry, ended chan struct{}
}

func newRetirement() *retirement {
	return &retirement{hurry: make(chan struct{}), ended: make(chan struct{})}
}

// giveWay ends a retirement that waits for the last users, and waits for its end, no longer than for that long. Nil is
// none. It is called once.
func (r *retirement) giveWay(ctx context.Context, patience time.Duration) {
	if r == nil {
		return
	}
	close(r.hurry)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// retire has the type of a removed datastore let go of what it took of the host. What is in use is tried again until it is
// free, the driver ends, or there is a new datastore of that name.
func (s *Set) retire(ctx context.Context, m *monitor) {
	s.mu.Lock()
	leaving := m.leaving
	s.mu.Unlock()
	if leaving == nil {
		return
	}
	defer func() {
		close(leaving.ended)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leaving[m.name] == leaving {
			delete(s.leaving, m.name)
		}
	}()
	retire := m.forGood()
	for retire != nil && ctx.Err() == nil {
		err := retire(ctx, s.config.Tools, m.name)
		if err == nil {
			return
		}
		klog.FromContext(ctx).Error(err, "A datastore was removed, and something on this host is still in use of it", "datastore", m.name)
		again := time.NewTimer(s.config.Interval)
		select {
		case <-again.C:
			continue
		case <-leaving.hurry:
		case <-ctx.Done():
		}
		again.Stop()
		return
	}
}

// forGood keeps the pool from being used any more, and returns its type's Retire.
func (m *monitor) forGood() func(context.Context, Tools, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.datastore.DeepCopy()
	d.Spec.State = v1alpha1.StateInactive
	if m.pool != nil {
		update(m.pool, d)
	}
	for _, t := range m.set.config.Types {
		if t.Name == d.Spec.Type {
			return t.Retire
		}
	}
	return nil
}

// Tidy lets go of what datastores took of this host that were removed while the driver was not running. It is called once
// all others were applied, and doesn't wait for its end.
func (s *Set) Tidy(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.running.Go(func() {
		for _, t := range s.config.Types {
			if t.Tidy == nil {
				continue
			}
			if err := t.Tidy(ctx, s.config.Tools, func(name string) bool { return s.has(name, t.Name) }); err != nil {
				klog.FromContext(ctx).Error(err, "Something on this host is still in use of a datastore that was removed", "type", t.Name)
			}
		}
	})
}

// has tells whether there is a datastore of that name and type.
func (s *Set) has(name string, t v1alpha1.DatastoreType) bool {
	s.mu.Lock()
	m := s.monitors[name]
	s.mu.Unlock()
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.datastore.Spec.Type == t
}
