package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Unreachable is the reason of the finding on the pools of a host that gives no sign of life.
const Unreachable = "Unreachable"

// hosts is the table of hosts as the cluster sees them.
type hosts struct {
	store.Table[v1alpha1.DatastoreHost]
	silent func(host string) (time.Duration, bool)
}

// Hosts returns a table whose reads say of the pools of silent hosts that they are unavailable, whatever their agents
// said last. Watches tell what is stored.
func Hosts(t store.Table[v1alpha1.DatastoreHost], silent func(host string) (time.Duration, bool)) store.Table[v1alpha1.DatastoreHost] {
	return &hosts{Table: t, silent: silent}
}

// Get implements store.Table.
func (h *hosts) Get(ctx context.Context, name string) (*v1alpha1.DatastoreHost, error) {
	r, err := h.Table.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return h.judged(r), nil
}

// List implements store.Table.
func (h *hosts) List(ctx context.Context) ([]*v1alpha1.DatastoreHost, error) {
	all, err := h.Table.List(ctx)
	for i, r := range all {
		all[i] = h.judged(r)
	}
	return all, err
}

func (h *hosts) judged(r *v1alpha1.DatastoreHost) *v1alpha1.DatastoreHost {
	silent, is := h.silent(r.Name)
	if !is {
		return r
	}
	out := r.DeepCopy()
	out.Status.Health = v1alpha1.Unavailable
	for name, pool := range out.Status.Pools {
		pool.Health = v1alpha1.Unavailable
		pool.Findings = append([]v1alpha1.Finding{{Reason: Unreachable, Message: fmt.Sprintf(
			"host %s has not renewed its lease for %s: its volumes can't be changed or moved; see whether the machine runs, and the driver on it",
			r.Name, whole(silent))}}, pool.Findings...)
		out.Status.Pools[name] = pool
	}
	return out
}

// whole is a silence in whole minutes, or that it is longer than a lease holds.
func whole(silent time.Duration) string {
	if silent < time.Minute {
		return "longer than it holds"
	}
	return strings.TrimSuffix(silent.Truncate(time.Minute).String(), "0s")
}
