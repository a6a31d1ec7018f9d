package datastore

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// SetConfig is what a Set needs.
type SetConfig struct {
	Types                []Type
	Host                 string
	MachineID, ClusterID string
	Tools                Tools
	// Interval between two measurements of a pool.
	Interval time.Duration
	// Patience is how long a measurement may take before the pool counts as one that does not answer.
	Patience time.Duration
}

// Set keeps this host's pools: it opens them, measures them, and hands them out. Each pool is opened and
// measured in a goroutine of its own, so that one which hangs delays no other. All methods may be called
// concurrently.
type Set struct {
	config  SetConfig
	claims  Claims
	changed chan struct{}

	mu       sync.Mutex
	monitors map[string]*monitor
	leaving  map[string]*retirement // of datastores that were removed
	stopped  bool
	running  sync.WaitGroup
}

// NewSet returns an empty set.
func NewSet(c SetConfig) *Set {
	return &Set{config: c, changed: make(chan struct{}, 1), monitors: map[string]*monitor{}, leaving: map[string]*retirement{}}
}

// Apply opens a datastore's pool, or brings an open one up to a changed spec. PoolUUID is the UUID that
// the record holds of the pool, or "" where it never held one. A datastore that is not for this host is
// removed.
func (s *Set) Apply(ctx context.Context, d *v1alpha1.Datastore, poolUUID string) {
	if !Serves(d, s.config.Host) {
		s.Remove(d.Name)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	if m, ok := s.monitors[d.Name]; ok {
		m.apply(d)
		return
	}
	m := newMonitor(s, d, poolUUID)
	s.monitors[d.Name] = m
	before := s.leaving[d.Name]
	measuring, stop := context.WithCancel(ctx)
	m.stop = stop
	s.running.Go(func() {
		before.giveWay(measuring, s.config.Patience)
		m.run(measuring)
		s.retire(ctx, m)
		s.release(m)
	})
}

// Serves tells whether a host is among those that have a datastore.
func Serves(d *v1alpha1.Datastore, host string) bool {
	return len(d.Spec.Hosts) == 0 || slices.Contains(d.Spec.Hosts, host)
}

// Remove closes a datastore's pool, and lets go of what it took of the host as soon as nobody uses that. Its storage
// stays as it is.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	m, ok := s.monitors[name]
	delete(s.monitors, name)
	if ok {
		m.leaving = newRetirement()
		s.leaving[name] = m.leaving
	}
	s.mu.Unlock()
	if ok {
		m.stop()
		s.tell()
	}
}

// release gives up the place of a monitor that has ended, unless its datastore came back meanwhile.
func (s *Set) release(m *monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.monitors[m.name]; now == nil || now == m {
		s.claims.Release(m.name)
	}
}

// Pool returns an open pool. It waits, no longer than the set's patience, for a pool that was never
// measured. A datastore that is not here is fault.NotFound; one that is inactive, could not be opened, or
// does not answer is fault.Unavailable and says why.
func (s *Set) Pool(ctx context.Context, name string) (Pool, error) {
	return s.hand(ctx, name, (*monitor).get)
}

// hand returns what a datastore's monitor gives, once it has measured its pool.
func (s *Set) hand(ctx context.Context, name string, give func(*monitor) (Pool, error)) (Pool, error) {
	s.mu.Lock()
	m, ok := s.monitors[name]
	s.mu.Unlock()
	if !ok {
		return nil, fault.New(fault.NotFound, "datastore %q has no pool on host %q", name, s.config.Host)
	}
	m.await(ctx)
	pool, err := give(m)
	return pool, fault.Wrap(err, "use datastore", name)
}

// Leave is Pool for a caller that lets go of a volume (Pool.Close): an inactive datastore, and one that
// could not be measured of late, let go too as long as they are open.
func (s *Set) Leave(ctx context.Context, name string) (Pool, error) {
	return s.hand(ctx, name, (*monitor).leave)
}

// Statuses returns what was last measured of every pool.
func (s *Set) Statuses() map[string]v1alpha1.PoolStatus {
	monitors := s.all()
	out := make(map[string]v1alpha1.PoolStatus, len(monitors))
	for _, m := range monitors {
		out[m.name] = m.report()
	}
	return out
}

func (s *Set) all() []*monitor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.monitors))
}

// Settle waits until every pool was measured once, or for the set's patience, whichever comes first.
func (s *Set) Settle(ctx context.Context) {
	monitors := s.all()
	ctx, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	for _, m := range monitors {
		m.await(ctx)
	}
}

// Audited keeps what an audit of a pool found, until the next one, in the pool's status.
func (s *Set) Audited(name string, audit Audit) {
	s.mu.Lock()
	m, ok := s.monitors[name]
	s.mu.Unlock()
	if ok {
		m.audited(audit)
		s.tell()
	}
}

// Kick has a pool measured soon: something was made or removed there.
func (s *Set) Kick(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.monitors[name]; ok {
		m.wake()
	}
}

// Changed tells that a status may have changed. It holds one token for one reader.
func (s *Set) Changed() <-chan struct{} { return s.changed }

func (s *Set) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Close ends all measurements and waits for them as long as ctx lasts: one that hangs in the kernel is
// left behind.
func (s *Set) Close(ctx context.Context) {
	s.mu.Lock()
	s.stopped = true
	for _, m := range s.monitors {
		m.stop()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
