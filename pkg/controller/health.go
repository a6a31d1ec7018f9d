package controller

import (
	"context"
	"fmt"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The kinds of adverse condition (CSI specification, VolumeHealthErrorType).
const (
	degraded     v1alpha1.VolumeHealth = "DEGRADED"
	inaccessible v1alpha1.VolumeHealth = "INACCESSIBLE"
	dataLoss     v1alpha1.VolumeHealth = "DATA_LOSS"
)

// Health says what is known to be wrong with a volume.
func (c *Controller) Health(ctx context.Context, id string) (Health, error) {
	v, err := c.GetReady(ctx, id)
	if err != nil {
		return Health{}, err
	}
	pools, err := c.pools(ctx)
	if err != nil {
		return Health{}, err
	}
	return Health{ID: id, Problems: problems(v, pools)}, nil
}

// ListHealth returns a page of the volumes of which something is known to be wrong, sorted by ID; max 0 is all.
// A token that it did not hand out is fault.Busy.
func (c *Controller) ListHealth(ctx context.Context, token string, max int) (Page[Health], error) {
	all, err := c.config.Store.Volumes.List(ctx)
	if err != nil {
		return Page[Health]{}, err
	}
	pools, err := c.pools(ctx)
	if err != nil {
		return Page[Health]{}, err
	}
	return paged(all, token, max, func(v *v1alpha1.DatastoreVolume) (string, Health, bool) {
		h := Health{ID: v.Name}
		if v.Status.Worker.Phase == v1alpha1.Ready {
			h.Problems = problems(v, pools)
		}
		return v.Name, h, len(h.Problems) > 0
	})
}

// reported is a pool, and the volumes that it has no storage of.
type reported struct {
	v1alpha1.PoolStatus
	missing map[string]v1alpha1.Orphan
}

func (c *Controller) pools(ctx context.Context) (map[poolKey]reported, error) {
	hosts, err := c.config.Store.Hosts.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[poolKey]reported{}
	for _, h := range hosts {
		for name, pool := range h.Status.Pools {
			r := reported{PoolStatus: pool, missing: map[string]v1alpha1.Orphan{}}
			for _, o := range pool.Orphans {
				if o.Kind == v1alpha1.NoStorage && !o.Snapshot {
					r.missing[o.Name] = o
				}
			}
			out[poolKey{name, h.Name}] = r
		}
	}
	return out, nil
}

// problems are what is known to be wrong with a volume: of its pool, of what its worker found, of its worker's
// last work. Each status and reason stands there once.
func problems(v *v1alpha1.DatastoreVolume, pools map[poolKey]reported) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	add := func(p v1alpha1.Problem) {
		if !slices.ContainsFunc(out, func(o v1alpha1.Problem) bool { return o.Status == p.Status && o.Reason == p.Reason }) {
			out = append(out, p)
		}
	}
	pool, ok := pools[poolKey{v.Spec.Datastore, v.Spec.Worker.Host}]
	switch {
	case !ok:
		add(v1alpha1.Problem{Status: inaccessible, Reason: "PoolNotReported", Message: fmt.Sprintf(
			"host %q reports no pool of datastore %q; is the driver running there?", v.Spec.Worker.Host, v.Spec.Datastore)})
	case pool.Health == v1alpha1.Unavailable && len(v.Status.Nodes) > 0 && isInactive(pool.PoolStatus):
		add(v1alpha1.Problem{Status: degraded, Reason: "DatastoreInactive", Message: fmt.Sprintf(
			"datastore %q is switched off (spec.state): who has the volume mounted keeps it, and nothing else can be done with it", v.Spec.Datastore)})
	case pool.Health == v1alpha1.Unavailable:
		add(v1alpha1.Problem{Status: inaccessible, Reason: "PoolUnavailable", Message: fmt.Sprintf(
			"datastore %q on host %q is unavailable: %s", v.Spec.Datastore, v.Spec.Worker.Host, findings(pool.PoolStatus))})
	default:
		// Where the worker has said what is wrong with it, that is why it is missing.
		if o, gone := pool.missing[v.Name]; gone && len(v.Status.Worker.Problems) == 0 {
			add(v1alpha1.Problem{Status: dataLoss, Reason: "StorageMissing", Message: fmt.Sprintf(
				"datastore %q on host %q is there, and the volume is not in it (%s): bring it back, or restore it from a snapshot or backup",
				v.Spec.Datastore, v.Spec.Worker.Host, o.Location)})
		}
	}
	for _, p := range v.Status.Worker.Problems {
		add(p)
	}
	// A failure stays in the record after what failed was taken back.
	if f := v.Status.Worker.Failure; f != nil && wantsWork(v) {
		add(v1alpha1.Problem{Status: severity(f), Reason: "WorkFailed", Message: f.Message + " (" + f.Reason + "; it is tried again)"})
	}
	return out
}

// isInactive tells whether a pool can't be used only since its administrator has switched it off.
func isInactive(p v1alpha1.PoolStatus) bool {
	return slices.ContainsFunc(p.Findings, func(f v1alpha1.Finding) bool { return f.Reason == datastore.ReasonInactive })
}

// wantsWork tells whether a record says something that is not yet true.
func wantsWork(v *v1alpha1.DatastoreVolume) bool {
	return v.Spec.Deletion != nil || v.Spec.Size.Cmp(v.Status.Worker.Size) > 0 || !marked(v)
}

// severity is what the failure of a worker's last work on a volume says of it.
func severity(f *v1alpha1.Failure) v1alpha1.VolumeHealth {
	switch fault.ParseKind(f.Reason) {
	case fault.DataLoss:
		return dataLoss
	case fault.NotFound, fault.Precondition, fault.Unavailable:
		return inaccessible
	}
	return degraded
}
