package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	coordination "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// leases answers a list with what the test says.
type leases struct {
	client.LeaseInterface // what the test does not expect panics
	renewed               map[string]time.Time
	err                   error
}

func (l *leases) List(context.Context, metav1.ListOptions) (*coordination.LeaseList, error) {
	out := &coordination.LeaseList{}
	for name, at := range l.renewed {
		renewed := metav1.NewMicroTime(at)
		out.Items = append(out.Items, coordination.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordination.LeaseSpec{RenewTime: &renewed}})
	}
	return out, l.err
}

func TestAHostIsSilentByOurOwnClockOnly(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	// Their clocks are anywhere: only that a lease changes counts.
	table := &leases{renewed: map[string]time.Time{"datastore-csi-host-a": now.Add(-time.Hour), "datastore-csi-host-b": now.Add(time.Hour), "other": now}}
	l := NewLiveness(table, func() time.Time { return now })
	away := errors.New("away")
	for n, c := range []struct {
		after        time.Duration
		err          error
		renew        []string
		silentA, bIs bool
	}{
		{after: time.Hour, err: away}, // before the first look nobody is silent
		{},
		{after: LeaseDuration},
		{after: time.Second, renew: []string{"datastore-csi-host-b"}, silentA: true},
		{after: LeaseDuration, renew: []string{"datastore-csi-host-a"}},
		{after: time.Second, bIs: true},
		{after: time.Hour, err: away}, // an outage: nobody is declared dead,
		{after: 0},                    // nor after it,
		{after: LeaseDuration - 1},    // for as long as a lease holds
		{after: 2, silentA: true, bIs: true},
	} {
		now = now.Add(c.after)
		for _, name := range c.renew {
			table.renewed[name] = table.renewed[name].Add(time.Second)
		}
		table.err = c.err
		if err := l.look(t.Context()); !errors.Is(err, c.err) {
			t.Fatalf("look %d: %v", n, err)
		}
		_, a := l.Silent("a")
		_, b := l.Silent("b")
		if a != c.silentA || b != c.bIs {
			t.Errorf("after look %d: a is silent %t, want %t; b %t, want %t", n, a, c.silentA, b, c.bIs)
		}
	}
	if _, never := l.Silent("never-seen"); !never {
		t.Error("a host without a lease is not silent")
	}
}
