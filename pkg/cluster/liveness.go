package cluster

import (
	"context"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
)

// lookEvery is how often the leases are looked at.
const lookEvery = 5 * time.Second

// Liveness tells which hosts are alive. Its methods may be called concurrently.
type Liveness struct {
	leases client.LeaseInterface
	now    func() time.Time

	mu sync.Mutex
	// watching is since when every look succeeded; zero while they fail.
	watching time.Time
	seen     map[string]sign
}

// sign is the last sign of life of a host.
type sign struct {
	renewed metav1.MicroTime // by its clock
	at      time.Time        // by ours, when we saw it first
}

// NewLiveness returns a Liveness that looks while Run runs.
func NewLiveness(leases client.LeaseInterface, now func() time.Time) *Liveness {
	return &Liveness{leases: leases, now: now, seen: map[string]sign{}}
}

// Run looks at the leases until ctx ends.
func (l *Liveness) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Looking which hosts are alive failed; none is declared unreachable for as long as a lease holds")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Liveness) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	// Not from the API server's cache, which may be older than the outage of what lies below it.
	all, err := l.leases.List(ctx, metav1.ListOptions{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.watching = time.Time{}
		return err
	}
	now := l.now()
	if l.watching.IsZero() {
		l.watching = now
	}
	there := map[string]bool{}
	for _, lease := range all.Items {
		host, ours := strings.CutPrefix(lease.Name, leasePrefix)
		if !ours || lease.Spec.RenewTime == nil {
			continue
		}
		there[host] = true
		if last, ok := l.seen[host]; !ok || !last.renewed.Equal(lease.Spec.RenewTime) {
			l.seen[host] = sign{*lease.Spec.RenewTime, now}
		}
	}
	for host := range l.seen {
		if !there[host] {
			delete(l.seen, host)
		}
	}
	return nil
}

// Silent returns for how long a host has given no sign of life, where that is longer than its lease holds.
func (l *Liveness) Silent(host string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watching.IsZero() {
		return 0, false
	}
	since := l.watching
	if s, ok := l.seen[host]; ok && s.at.After(since) {
		since = s.at
	}
	silent := l.now().Sub(since)
	return silent, silent > LeaseDuration
}
