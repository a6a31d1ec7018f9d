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
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Create returns the volume of that name, which is Ready: it makes the record, or finds it, and waits. A
// volume of that name that differs from the request is fault.Exists.
func (c *Controller) Create(ctx context.Context, q CreateRequest) (*v1alpha1.DatastoreVolume, error) {
	if err := cmp.Or(checkName(q.Name), q.Range.check()); err != nil {
		return nil, err
	}
	p, err := parseParameters(q.Parameters)
	if err != nil {
		return nil, err
	}
	fs, options, err := resolveFilesystem(q.Access.Type, q.Filesystem, p)
	if err != nil {
		return nil, err
	}
	if fs != "" {
		if _, err := filesystem.MountOptions(filesystem.Type(fs), q.MountFlags); err != nil {
			return nil, err
		}
	}
	id := VolumeID(q.Name)
	ctx = step.WithVolume(ctx, id)
	found, err := c.config.Store.Volumes.Get(ctx, id)
	switch {
	case err == nil:
		if err := differs(found, q, p, fs); err != nil {
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
	return c.placeAndCreate(ctx, q, p, c.blank(q, p, fs, options))
}

// blank is the record of a request, without what placement decides.
func (c *Controller) blank(q CreateRequest, p parameters, fs string, options []string) *v1alpha1.DatastoreVolume {
	r := &v1alpha1.DatastoreVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreVolume"},
		ObjectMeta: metav1.ObjectMeta{
			Name: VolumeID(q.Name), Labels: maps.Clone(p.labels), Finalizers: []string{v1alpha1.Finalizer},
		},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: q.Name, ClusterID: c.config.ClusterID, Access: q.Access, Parameters: p.own,
			Provisioning: p.provisioning, Format: p.format,
		},
	}
	if fs != "" {
		r.Spec.Filesystem = &v1alpha1.FilesystemSpec{Type: fs, UUID: c.config.NewUUID(), MkfsOptions: options}
	}
	return r
}

// placeAndCreate tries the candidates that fit, best first. One whose agent rejects the volume is passed
// over, and the next one tried once the rejected record is gone.
func (c *Controller) placeAndCreate(ctx context.Context, q CreateRequest, p parameters, blank *v1alpha1.DatastoreVolume) (*v1alpha1.DatastoreVolume, error) {
	candidates, err := c.candidates(ctx, p)
	if err != nil {
		return nil, err
	}
	fits, refusals := place(demand{
		size: q.Range, volume: datastore.FromRecord(blank), namespace: p.namespace, topology: q.Topology, placement: p.placement,
	}, candidates)
	for _, f := range fits {
		v, err := c.createOn(ctx, blank, f)
		if !fault.Is(err, fault.Exhausted) && !fault.Is(err, fault.Invalid) {
			return v, err
		}
		refusals = append(refusals, refusal{f.candidate, err})
	}
	return nil, refuse(refusals)
}

// createOn makes the record on one pool and waits for it. Where it is refused, no record is left.
func (c *Controller) createOn(ctx context.Context, blank *v1alpha1.DatastoreVolume, f fit) (*v1alpha1.DatastoreVolume, error) {
	if err := c.reserve(blank.Name, f); err != nil {
		return nil, err
	}
	r := blank.DeepCopy()
	r.Spec.Datastore, r.Spec.Worker.Host, r.Spec.Size = f.datastore.Name, f.host, v1alpha1.Bytes(f.bytes)
	r.Spec.Provisioning = cmp.Or(r.Spec.Provisioning, f.datastore.Spec.Volumes.Provisioning)
	r.Spec.Format = cmp.Or(r.Spec.Format, f.datastore.Spec.Volumes.Format)
	created, err := c.config.Store.Volumes.Create(ctx, r)
	if err != nil {
		c.ledger(poolKey{f.datastore.Name, f.host}).Release(blank.Name)
		if fault.Is(err, fault.Exists) {
			return nil, fault.New(fault.Busy, "volume %q: another call makes it; try again", blank.Name)
		}
		return nil, err
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
		return v.Status.Worker.Phase == v1alpha1.Ready, nil
	})
	if err != nil || ready.Status.Worker.Phase == v1alpha1.Ready {
		return ready, fault.Wrap(err, "create volume", r.Name)
	}
	why := ready.Status.Worker.Failure
	if err := c.remove(ctx, ready); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.ParseKind(why.Reason), "%s", why.Message)
}

// differs says how an existing volume is not what is asked for, as fault.Exists.
func differs(v *v1alpha1.DatastoreVolume, q CreateRequest, p parameters, fs string) error {
	existing := ""
	if v.Spec.Filesystem != nil {
		existing = v.Spec.Filesystem.Type
	}
	what := ""
	switch {
	case v.Spec.Name != q.Name:
		what = "name"
	case !q.Range.holds(v.Spec.Size.Value()):
		what = "size"
	case v.Spec.Access.Type != q.Access.Type || !slices.Equal(v.Spec.Access.Modes, q.Access.Modes):
		what = "capabilities"
	case existing != fs:
		what = "file system"
	case !maps.Equal(v.Spec.Parameters, p.own):
		what = "parameters"
	case !q.Topology.allows(v.Spec.Worker.Host):
		what = "accessibility requirements"
	default:
		return nil
	}
	return fault.New(fault.Exists, "volume %q (%d bytes on datastore %q) exists with another %s; delete it or choose another name",
		v.Name, v.Spec.Size.Value(), v.Spec.Datastore, what)
}
