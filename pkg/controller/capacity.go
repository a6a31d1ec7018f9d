package controller

import "context"

// Capacity says how much can still be promised to volumes like the one asked for. It never fails: what
// cannot be has no room.
func (c *Controller) Capacity(ctx context.Context, q CapacityRequest) Capacity {
	p, err := parseParameters(q.Parameters)
	if err != nil {
		return Capacity{}
	}
	asked := CreateRequest{Access: q.Access, Filesystem: q.Filesystem, Topology: q.Topology}
	w, err := resolveFilesystem(asked, p, nil)
	if err != nil {
		return Capacity{}
	}
	candidates, err := c.candidates(ctx, p)
	if err != nil {
		return Capacity{}
	}
	d := c.demand(asked, p, mutable{}, w)
	var out Capacity
	for _, pool := range candidates {
		// The question names no claim, so it comes from no namespace: it is about the storage.
		pool.datastore.Spec.AllowedNamespaces = nil
		v, err := d.shape(pool.datastore.Spec)
		if err != nil {
			continue
		}
		least := leastBytes(pool.capabilities, v)
		d.size = Range{Required: least}
		if _, err := d.judge(pool); err != nil {
			continue
		}
		room := pool.room(v.Provisioning)
		available := v.Fitting(room, pool.capabilities.Granularity)
		out.Available += available
		largest := available
		if most := pool.pool.Largest.Value(); most > 0 {
			largest = min(largest, v.Fitting(most, pool.capabilities.Granularity))
		}
		out.Largest = max(out.Largest, largest)
		if out.Smallest == 0 || least < out.Smallest {
			out.Smallest = least
		}
	}
	return out
}
