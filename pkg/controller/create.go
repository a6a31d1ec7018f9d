package controller

import (
	"cmp"
	"context"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Create returns the volume of that name, which is Ready: it makes the record, or finds it, and waits. A
// volume of that name that differs from the request is fault.Exists.
func (c *Controller) Create(ctx context.Context, q CreateRequest) (*v1alpha1.DatastoreVolume, error) {
	if err := cmp.Or(checkName("volume", q.Name), q.Range.check(), q.Source.check()); err != nil {
		return nil, err
	}
	id := VolumeID(q.Name)
	ctx = step.WithVolume(ctx, id)
	if q.Source != nil {
		defer c.copies.begin(volumeKey(id), sourceKey(q.Source.Kind, q.Source.ID))()
	}
	found, err := c.config.Store.Volumes.Get(ctx, id)
	switch {
	case err == nil:
		// A repeat finds its volume, whatever could be asked for today.
		if err := repeats(found, q); err != nil {
			return nil, err
		}
		if found.Status.Worker.Phase != v1alpha1.Rejected {
			return c.awaitReady(ctx, found)
		}
		if err := c.remove(ctx, found); err != nil {
			return nil, err
		}
	case !fault.Is(err, fault.NotFound):
		return nil, err
	}
	d, err := c.understand(ctx, q)
	if err != nil {
		return nil, err
	}
	return c.placeAndCreate(ctx, d)
}

// understand reads a request: what is asked for, and of which pools.
func (c *Controller) understand(ctx context.Context, q CreateRequest) (request, error) {
	r := request{name: q.Name}
	p, err := parseParameters(q.Parameters)
	if err != nil {
		return r, err
	}
	m, err := parseMutable(q.Mutable)
	if err != nil {
		return r, err
	}
	from, err := c.origin(ctx, q.Source)
	if err != nil {
		return r, err
	}
	w, err := resolveFilesystem(q, p, from)
	if err != nil {
		return r, err
	}
	if r.candidates, err = c.candidates(ctx, p); err != nil {
		return r, err
	}
	r.parameters = p
	r.demand = c.demand(q, p, m, w)
	if from == nil {
		return r, nil
	}
	if err := from.takes(q, p, w, datastoresOf(r.candidates)); err != nil {
		return r, err
	}
	r.demand.copyOf(from, c.config.NewUUID)
	if r.demand.capable, err = c.capable(ctx); err != nil {
		return r, err
	}
	at := slices.IndexFunc(r.candidates, func(c candidate) bool { return c.datastore.Name == from.datastore })
	if r.demand.size, err = from.size(q.Range, r.candidates[at].capabilities); err != nil {
		return r, err
	}
	r.candidates = slices.DeleteFunc(r.candidates, func(c candidate) bool {
		return c.datastore.Name != from.datastore || (c.host != "" && c.host != from.host)
	})
	if len(r.candidates) == 0 {
		return r, fault.New(fault.Unavailable, "%s lies on datastore %q of host %q, which does not report it now; is the driver running there?",
			from, from.datastore, from.host)
	}
	return r, nil
}

// request is a CreateRequest, understood.
type request struct {
	name       string
	parameters parameters
	demand     demand
	candidates []candidate
}

// demand is what a request needs of a pool.
func (c *Controller) demand(q CreateRequest, p parameters, m mutable, w wish) demand {
	d := demand{
		size: q.Range, mutable: q.Mutable, wish: w, namespace: p.namespace, topology: q.Topology, placement: p.placement,
		volume: datastore.Volume{
			Access: q.Access.Type, Modes: q.Access.Modes, Provisioning: p.provisioning, Format: p.format, Quota: p.quota,
			Redundancy: p.redundancy, Stripes: p.stripes, OnDelete: m.onDelete, Wipe: m.wipe,
		},
	}
	if w.name != "" {
		d.volume.Filesystem = &v1alpha1.FilesystemSpec{Type: w.name, UUID: c.config.NewUUID(), MkfsOptions: w.options}
	}
	return d
}

// copyOf makes a demand one for a copy.
func (d *demand) copyOf(from *origin, newUUID func() string) {
	d.source = from
	d.volume.Format = from.format
	d.volume.Filesystem = from.copyOfFilesystem(newUUID)
}

func datastoresOf(candidates []candidate) []string {
	var out []string
	for _, c := range candidates {
		out = append(out, c.datastore.Name)
	}
	return out
}

// record is the record of a request as it would be on a pool.
func (c *Controller) record(r request, f fit) *v1alpha1.DatastoreVolume {
	v := f.volume
	out := &v1alpha1.DatastoreVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreVolume"},
		ObjectMeta: metav1.ObjectMeta{
			Name: VolumeID(r.name), Labels: maps.Clone(r.parameters.labels), Finalizers: []string{v1alpha1.Finalizer},
		},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: r.name, ClusterID: c.config.ClusterID, Datastore: f.datastore.Name, Worker: v1alpha1.Worker{Host: f.host},
			Size: v1alpha1.Bytes(f.bytes), Access: v1alpha1.VolumeAccess{Type: v.Access, Modes: v.Modes}, Filesystem: v.Filesystem,
			Provisioning: v.Provisioning, Format: v.Format, Quota: v.Quota,
			Redundancy: v.Redundancy, Stripes: int32(v.Stripes), Parameters: r.parameters.own,
			MutableParameters: r.demand.mutable,
			// What the request leaves open is the datastore's, also when the administrator changes it.
			OnDelete: r.demand.volume.OnDelete, Wipe: r.demand.volume.Wipe,
		},
	}
	if s := r.demand.source; s != nil {
		out.Spec.Source = &v1alpha1.VolumeSource{Kind: s.kind, Name: s.id, UID: s.uid}
	}
	return out
}

// placeAndCreate tries the candidates that fit, best first. One whose agent rejects the volume is passed
// over, and the next one tried once the rejected record is gone.
func (c *Controller) placeAndCreate(ctx context.Context, r request) (*v1alpha1.DatastoreVolume, error) {
	fits, refusals := place(r.demand, r.candidates)
	for _, f := range fits {
		v, err := c.createOn(ctx, c.record(r, f), f)
		if !fault.Is(err, fault.Exhausted) && !fault.Is(err, fault.Invalid) {
			return v, err
		}
		refusals = append(refusals, refusal{f.candidate, err})
	}
	return nil, refuse(refusals)
}

// createOn makes the record on one pool and waits for it. Where it is refused, no record is left.
func (c *Controller) createOn(ctx context.Context, r *v1alpha1.DatastoreVolume, f fit) (*v1alpha1.DatastoreVolume, error) {
	if err := c.reserve(r.Name, f); err != nil {
		return nil, err
	}
	created, err := c.config.Store.Volumes.Create(ctx, r)
	if err != nil {
		c.ledger(poolKey{f.datastore.Name, f.host}).Release(volumeKey(r.Name))
		if fault.Is(err, fault.Exists) {
			return nil, fault.New(fault.Busy, "volume %q: another call makes it; try again", r.Name)
		}
		return nil, err
	}
	if r.Spec.Source != nil {
		c.account(created.Name, created)
	}
	return c.awaitReady(ctx, created)
}

// awaitReady waits for the worker. A rejected record is removed before the reason is returned: a caller
// that takes the error as final must leave nothing behind.
func (c *Controller) awaitReady(ctx context.Context, r *v1alpha1.DatastoreVolume) (*v1alpha1.DatastoreVolume, error) {
	if r.Spec.Deletion != nil || r.DeletionTimestamp != nil {
		return nil, fault.New(fault.Busy, "volume %q is being deleted; try again", r.Name)
	}
	ready, err := c.await(ctx, r, func(v *v1alpha1.DatastoreVolume) (bool, error) {
		switch {
		case v.Spec.Deletion != nil:
			return false, fault.New(fault.Busy, "volume %q is being deleted; try again", v.Name)
		case v.Status.Worker.Phase == v1alpha1.Rejected:
			return true, nil
		}
		// The worker's last work on it, so that nothing is under way when it is used.
		return v.Status.Worker.Phase == v1alpha1.Ready && marked(v), nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "create volume", r.Name)
	}
	if ready.Status.Worker.Phase == v1alpha1.Ready {
		if ready.Spec.Source != nil {
			c.account(ready.Name, ready)
		}
		return ready, nil
	}
	if err := c.remove(ctx, ready); err != nil {
		return nil, err
	}
	return nil, rejection(ready.Status.Worker)
}

// rejection is why a worker refused something for good.
func rejection(w v1alpha1.WorkerStatus) error {
	if w.Failure == nil {
		return fault.New(fault.Unavailable, "its worker refused it and did not say why; try again")
	}
	return fault.New(fault.ParseKind(w.Failure.Reason), "%s", w.Failure.Message)
}
