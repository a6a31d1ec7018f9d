package datastore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// host keeps what pools took of it.
type host struct {
	mu     sync.Mutex
	taken  []string
	inUse  bool
	told   chan string // what was let go of, or wasn't
	active int         // calls of Deactivate
}

type holder struct {
	double
	host *host
}

func (h *holder) Deactivate(context.Context) error {
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	h.host.active++
	if h.host.inUse {
		return fault.New(fault.Busy, "a shell is in it")
	}
	return nil
}

// retire is the type's.
func (h *host) retire(_ context.Context, _ Tools, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inUse {
		h.told <- name + " in use"
		return errors.New("in use")
	}
	h.taken = slices.DeleteFunc(h.taken, func(t string) bool { return t == name })
	h.told <- name
	return nil
}

func (h *host) set(inUse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inUse = inUse
}

func (h *host) tidy(ctx context.Context, t Tools, keep func(string) bool) error {
	for _, name := range []string{"a", "b", "gone"} {
		if !keep(name) {
			if err := h.retire(ctx, t, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *host) open(_ context.Context, c Config) (Pool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken = append(h.taken, c.Datastore.Name)
	return &holder{double: double{status: Status{UUID: "uuid"}}, host: h}, nil
}

func newHost(t *testing.T, interval time.Duration) (*host, *Set) {
	t.Helper()
	h := &host{told: make(chan string, 100)}
	s := NewSet(SetConfig{
		Types: []Type{{Name: "test", New: h.open, Retire: h.retire, Tidy: h.tidy}},
		Host:  "node-1", Interval: interval, Patience: time.Minute, Tools: Tools{Now: time.Now},
	})
	t.Cleanup(func() { s.Close(context.Background()) })
	return h, s
}

func (h *host) wants(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-h.told:
		if got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%q was not told", want)
	}
}

func TestARemovedDatastoreGivesTheHostBackWhatItTook(t *testing.T) {
	h, s := newHost(t, 10*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Apply(ctx, described("a"), "")
	s.Settle(ctx)
	h.set(true)
	s.Remove("a")
	h.wants(t, "a in use")
	h.wants(t, "a in use") // and again
	h.set(false)
	for got := ""; got != "a"; got = <-h.told {
	}
}

func TestADatastoreThatComesBackWaitsForTheOldOne(t *testing.T) {
	h, s := newHost(t, time.Hour)
	s.Apply(t.Context(), described("a"), "")
	s.Settle(t.Context())
	h.set(true)
	s.Remove("a")
	h.wants(t, "a in use")
	s.Apply(t.Context(), described("a"), "")
	s.Settle(t.Context())
	if _, err := s.Pool(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if len(h.told) > 0 {
		t.Errorf("told %q once there was a new one", <-h.told)
	}
}

func TestTheEndOfTheDriverTakesNothingBack(t *testing.T) {
	h, s := newHost(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	s.Apply(ctx, described("a"), "")
	s.Settle(ctx)
	cancel()
	s.Close(t.Context())
	if len(h.told) > 0 || !slices.Equal(h.taken, []string{"a"}) {
		t.Errorf("taken %v", h.taken)
	}
}

func TestWhatWasRemovedMeanwhileIsRetiredAtTheStart(t *testing.T) {
	h, s := newHost(t, time.Hour)
	s.Apply(t.Context(), described("a"), "")
	s.Apply(t.Context(), described("b"), "")
	s.Tidy(t.Context())
	h.wants(t, "gone")
	s.Close(t.Context())
	if len(h.told) > 0 {
		t.Errorf("told %q too", <-h.told)
	}
}

func TestAnInactiveDatastoreSaysWhatIsStillInUse(t *testing.T) {
	h, s := newHost(t, 10*time.Millisecond)
	r := &rig{Set: s}
	s.Apply(t.Context(), described("a"), "uuid")
	s.Settle(t.Context())
	h.set(true)
	s.Apply(t.Context(), described("a", func(d *v1alpha1.Datastore) { d.Spec.State = v1alpha1.StateInactive }), "uuid")
	says := func(word string) func(v1alpha1.PoolStatus) bool {
		return func(p v1alpha1.PoolStatus) bool { return len(p.Findings) == 1 && contains(p.Findings[0], word) }
	}
	r.reported(t, "a", "inactive", says("a shell is in it"))
	h.set(false)
	r.reported(t, "a", "let go of", func(p v1alpha1.PoolStatus) bool { return says("Inactive")(p) && !says("a shell")(p) })
	s.Apply(t.Context(), described("a"), "uuid")
	r.reported(t, "a", "healthy", health(v1alpha1.Healthy))
	if len(h.taken) != 1 {
		t.Errorf("it was opened %d times", len(h.taken))
	}
}

func contains(f v1alpha1.Finding, word string) bool { return strings.Contains(f.Message, word) }
