package cluster

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// How long a leader's lease holds, how long the leader tries to renew it before it stops leading, and how often it does.
const (
	leaderDuration = 15 * time.Second
	leaderRenew    = 10 * time.Second
	leaderRetry    = 2 * time.Second
)

// Election is one place that one process at a time has.
type Election struct {
	Leases client.LeasesGetter
	// Namespace and Name of the lease, Identity of this process among those that stand.
	Namespace, Name, Identity string
}

// Lead has this process stand for election until ctx ends, and runs lead for as long as it leads: its context ends
// before another process can lead. Lead may be called again.
func (e Election) Lead(ctx context.Context, lead func(context.Context)) error {
	// The elector does not wait for what it began.
	var leading sync.Mutex
	alone := func(ctx context.Context) {
		leading.Lock()
		defer leading.Unlock()
		if ctx.Err() == nil {
			lead(ctx)
		}
	}
	defer leading.Lock() // until the last one has ended
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name}, Client: e.Leases,
				LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
			},
			LeaseDuration: leaderDuration, RenewDeadline: leaderRenew, RetryPeriod: leaderRetry, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: alone, OnStoppedLeading: func() {}}, Name: e.Name,
		})
		if err != nil {
			return fault.Wrap(err, "stand for election of", e.Name)
		}
		elector.Run(ctx)
	}
	return nil
}
