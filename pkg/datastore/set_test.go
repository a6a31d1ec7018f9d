package datastore

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// double is a pool whose answers the test gives.
type double struct {
	Pool
	mu     sync.Mutex
	status Status
	err    error
	hang   chan struct{}
	// told is the last spec that it was told of.
	told *v1alpha1.Datastore
}

func (d *double) Update(now *v1alpha1.Datastore) { d.set(func() { d.told = now }) }

func (d *double) Status(context.Context) (Status, error) {
	d.mu.Lock()
	hang, status, err := d.hang, d.status, d.err
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return status, err
}

func (d *double) set(alter func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	alter()
}

// rig is a set of doubles by name, and how often each was opened.
type rig struct {
	*Set
	mu     sync.Mutex
	pools  map[string]*double
	opened map[string]int
	refuse error
}

func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	return newRigWith(t, time.Minute, names...)
}

// newRigWith is newRig with a patience for pools that don't answer.
func newRigWith(t *testing.T, patience time.Duration, names ...string) *rig {
	t.Helper()
	r := &rig{pools: map[string]*double{}, opened: map[string]int{}}
	for _, name := range names {
		r.pools[name] = &double{status: Status{UUID: "uuid-" + name, Total: 1000, Free: 1000}}
	}
	r.Set = NewSet(SetConfig{
		Types: []Type{{Name: "test", New: func(_ context.Context, c Config) (Pool, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.opened[c.Datastore.Name]++
			return r.pools[c.Datastore.Name], r.refuse
		}}},
		Host: "node-1", Interval: time.Hour, Patience: patience, Tools: Tools{Now: time.Now},
	})
	t.Cleanup(func() {
		r.Close(context.Background())
		goleak.VerifyNone(t)
	})
	return r
}

func described(name string, alter ...func(*v1alpha1.Datastore)) *v1alpha1.Datastore {
	d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}, Spec: v1alpha1.DatastoreSpec{Type: "test"}}
	for _, a := range alter {
		a(d)
	}
	d.SetDefaults()
	return d
}

// reported waits until a pool's status is as wanted.
func (r *rig) reported(t *testing.T, name, what string, wanted func(v1alpha1.PoolStatus) bool) v1alpha1.PoolStatus {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		s := r.Statuses()[name]
		if wanted(s) {
			return s
		}
		select {
		case <-r.Changed():
		case <-time.After(20 * time.Millisecond): // a pool that hangs tells nothing
		case <-limit:
			t.Fatalf("%s did not become %s: %+v", name, what, s)
		}
	}
}

func health(h v1alpha1.Health) func(v1alpha1.PoolStatus) bool {
	return func(s v1alpha1.PoolStatus) bool { return s.Health == h }
}

func TestAPoolIsOpenedMeasuredAndHandedOut(t *testing.T) {
	r := newRig(t, "a")
	r.Apply(t.Context(), described("a"), "")
	if _, err := r.Pool(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	s := r.reported(t, "a", "healthy", health(v1alpha1.Healthy))
	if s.UUID != "uuid-a" || s.Total.Value() != 1000 || s.Promisable.Value() != 950 {
		t.Errorf("status %+v", s)
	}
	if _, err := r.Pool(t.Context(), "b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown datastore: %v", err)
	}
}

func TestAPoolThatHangsDelaysNoOtherAndComesBack(t *testing.T) {
	r := newRigWith(t, 200*time.Millisecond, "a", "b")
	hang := make(chan struct{})
	r.pools["a"].hang = hang
	r.Apply(t.Context(), described("a"), "")
	r.Apply(t.Context(), described("b"), "")
	r.reported(t, "b", "healthy", health(v1alpha1.Healthy))
	if _, err := r.Pool(t.Context(), "b"); err != nil {
		t.Error(err)
	}
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "not answered") {
		t.Errorf("the one that hangs: %v", err)
	}
	s := r.reported(t, "a", "unavailable", health(v1alpha1.Unavailable))
	if len(s.Findings) != 1 || s.Findings[0].Reason != "NoAnswer" {
		t.Errorf("findings %+v", s.Findings)
	}
	r.pools["a"].set(func() { r.pools["a"].hang = nil })
	close(hang)
	r.reported(t, "a", "healthy", health(v1alpha1.Healthy))
	if _, err := r.Pool(t.Context(), "a"); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

func TestAPoolThatIsBeingOpenedSaysSo(t *testing.T) {
	r := newRigWith(t, time.Hour, "a")
	hang := make(chan struct{})
	r.pools["a"].hang = hang
	r.Apply(t.Context(), described("a"), "")
	s := r.reported(t, "a", "unavailable", health(v1alpha1.Unavailable))
	if len(s.Findings) != 1 || s.Findings[0].Reason != "Opening" || !strings.Contains(s.Findings[0].Message, "try again") {
		t.Errorf("findings %+v", s.Findings)
	}
	r.pools["a"].set(func() { r.pools["a"].hang = nil })
	close(hang)
	r.reported(t, "a", "healthy", health(v1alpha1.Healthy))
}

func TestAPoolThatCannotBeOpenedSaysWhyAndIsTriedAgain(t *testing.T) {
	r := newRig(t, "a")
	r.refuse = fault.New(fault.Precondition, "no such directory")
	r.Apply(t.Context(), described("a"), "uuid-known")
	s := r.reported(t, "a", "reported", func(s v1alpha1.PoolStatus) bool { return len(s.Findings) > 0 && s.Findings[0].Reason != "Opening" })
	if s.Health != v1alpha1.Unavailable || !strings.Contains(s.Findings[0].Message, "no such directory") || s.UUID != "uuid-known" {
		t.Errorf("status %+v", s)
	}
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	r.mu.Lock()
	r.refuse = nil
	r.mu.Unlock()
	r.Kick("a")
	r.reported(t, "a", "healthy", health(v1alpha1.Healthy))
}

func TestOnlyANewPlaceOpensAPoolAnew(t *testing.T) {
	r := newRig(t, "a")
	opens := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.opened["a"]
	}
	generation := func(n int64) func(*v1alpha1.Datastore) { return func(d *v1alpha1.Datastore) { d.Generation = n } }
	seen := func(n int64) func(v1alpha1.PoolStatus) bool {
		return func(s v1alpha1.PoolStatus) bool { return s.ObservedGeneration == n }
	}
	r.Apply(t.Context(), described("a"), "")
	r.reported(t, "a", "measured", seen(1))
	r.Apply(t.Context(), described("a", generation(2), func(d *v1alpha1.Datastore) { d.Spec.Maintenance = v1alpha1.Cordon }), "")
	r.reported(t, "a", "measured for the cordon", seen(2))
	if opens() != 1 {
		t.Errorf("a cordon opened it anew")
	}
	r.pools["a"].set(func() {
		if told := r.pools["a"].told; told == nil || told.Spec.Maintenance != v1alpha1.Cordon {
			t.Errorf("the pool was told of %+v", told)
		}
	})
	r.Apply(t.Context(), described("a", generation(3), func(d *v1alpha1.Datastore) { d.Spec.Directory = &v1alpha1.DirectorySpec{Path: "/b"} }), "")
	r.reported(t, "a", "measured at its new place", seen(3))
	if opens() != 2 {
		t.Errorf("opened %d times", opens())
	}
}

func TestAnInactiveDatastoreIsClosed(t *testing.T) {
	r := newRig(t, "a")
	r.Apply(t.Context(), described("a", func(d *v1alpha1.Datastore) { d.Spec.State = v1alpha1.StateInactive }), "")
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "Inactive") {
		t.Errorf("got %v", err)
	}
	if r.opened["a"] != 0 {
		t.Error("it was opened, and so marked")
	}
}

func TestAnInactiveDatastoreLetsGoOfWhatIsInUse(t *testing.T) {
	r := newRig(t, "a")
	r.Apply(t.Context(), described("a", func(d *v1alpha1.Datastore) { d.Spec.State = v1alpha1.StateInactive }), "uuid-a")
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("to use it: %v", err)
	}
	if _, err := r.Leave(t.Context(), "a"); err != nil {
		t.Errorf("to let go: %v", err)
	}
	if _, err := r.Leave(t.Context(), "b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown datastore: %v", err)
	}
}

func TestAChangedSpecWaitsForNoMeasurement(t *testing.T) {
	r := newRig(t, "a")
	r.Apply(t.Context(), described("a"), "uuid-a")
	if _, err := r.Pool(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.Apply(t.Context(), described("a", func(d *v1alpha1.Datastore) { d.Spec.State = v1alpha1.StateInactive }), "uuid-a")
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "Inactive") {
		t.Errorf("to use it at once: %v", err)
	}
	r.reported(t, "a", "inactive", health(v1alpha1.Unavailable)) // the interval is an hour
}

func TestADatastoreOfOtherHostsHasNoPool(t *testing.T) {
	r := newRig(t, "a")
	r.Apply(t.Context(), described("a"), "")
	if _, err := r.Pool(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.Apply(t.Context(), described("a", func(d *v1alpha1.Datastore) { d.Spec.Hosts = []string{"node-2"} }), "")
	if _, err := r.Pool(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestHealthFollowsTheThresholds(t *testing.T) {
	finding := []v1alpha1.Finding{{Reason: "X", Message: "look"}}
	for name, c := range map[string]struct {
		status Status
		want   v1alpha1.Health
		reason string
	}{
		"room":                      {Status{Total: 1000, Used: 799}, v1alpha1.Healthy, ""},
		"the warning threshold":     {Status{Total: 1000, Used: 800}, v1alpha1.Warning, "NearlyFull"},
		"the critical threshold":    {Status{Total: 1000, Used: 950}, v1alpha1.Critical, "CriticallyFull"},
		"a finding":                 {Status{Total: 1000, Findings: finding}, v1alpha1.Warning, "X"},
		"a finding and full":        {Status{Total: 1000, Used: 1000, Findings: finding}, v1alpha1.Critical, "X"},
		"a read-only file system":   {Status{Total: 1000, Degraded: true, Findings: finding}, v1alpha1.Critical, "X"},
		"nothing known of its size": {Status{}, v1alpha1.Healthy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := assess(described("a"), c.status, nil, Audit{})
			if got.Health != c.want {
				t.Errorf("health %s, want %s", got.Health, c.want)
			}
			if c.reason != "" && (len(got.Findings) == 0 || got.Findings[0].Reason != c.reason) {
				t.Errorf("findings %+v", got.Findings)
			}
		})
	}
}
