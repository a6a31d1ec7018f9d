package cluster

import (
	"context"
	"time"

	coordination "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// LeaseDuration is how long a host's lease holds.
	LeaseDuration = 40 * time.Second
	// beatEvery is how often a host renews it.
	beatEvery = 10 * time.Second

	// leasePrefix stands before a host's name in that of its lease.
	leasePrefix = "datastore-csi-host-"
)

// Beat renews a host's lease until ctx ends. What fails is tried again at the next beat.
func Beat(ctx context.Context, leases client.LeaseInterface, host string, now func() time.Time) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if err := beat(ctx, leases, host, now()); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Renewing the host's lease failed; without it the host counts as unreachable", "host", host)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beat renews the lease once, or makes it.
func beat(ctx context.Context, leases client.LeaseInterface, host string, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	at, seconds := metav1.NewMicroTime(now), int32(LeaseDuration/time.Second)
	lease, err := leases.Get(ctx, leasePrefix+host, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordination.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: leasePrefix + host},
			Spec:       coordination.LeaseSpec{HolderIdentity: &host, LeaseDurationSeconds: &seconds, AcquireTime: &at, RenewTime: &at},
		}, metav1.CreateOptions{})
		return fault.Wrap(err, "make the lease of host", host)
	}
	if err != nil {
		return fault.Wrap(err, "read the lease of host", host)
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &host, &seconds, &at
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return fault.Wrap(err, "renew the lease of host", host)
}
