package controller

import (
	"cmp"
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// Capacity says how much can still be promised to volumes like the one asked for. It never fails: what
// cannot be has no room.
func (c *Controller) Capacity(ctx context.Context, q CapacityRequest) Capacity {
	p, err := parseParameters(q.Parameters)
	if err != nil {
		return Capacity{}
	}
	fs, options, err := resolveFilesystem(q.Access.Type, q.Filesystem, p)
	if err != nil {
		return Capacity{}
	}
	candidates, err := c.candidates(ctx, p)
	if err != nil {
		return Capacity{}
	}
	blank := c.blank(CreateRequest{Access: q.Access}, p, fs, options)
	d := demand{volume: datastore.FromRecord(blank), topology: q.Topology}
	var out Capacity
	for _, pool := range candidates {
		// The question names no claim, so it comes from no namespace: it is about the storage.
		pool.datastore.Spec.AllowedNamespaces = nil
		least := pool.capabilities.MinBytes(fs)
		d.size = Range{Required: least}
		if _, err := d.judge(pool); err != nil {
			continue
		}
		room := pool.room(cmp.Or(p.provisioning, pool.datastore.Spec.Volumes.Provisioning))
		room = room / pool.capabilities.Granularity * pool.capabilities.Granularity
		out.Available += room
		out.Largest = max(out.Largest, room)
		if out.Smallest == 0 || least < out.Smallest {
			out.Smallest = least
		}
	}
	return out
}
