package controller

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// CreateSnapshot returns the snapshot of that name as soon as it is taken: it makes the record, or finds it, and
// waits. What it holds may be copied for a while yet; ReadyToUse tells. A snapshot of that name that differs from
// the request is fault.Exists.
func (c *Controller) CreateSnapshot(ctx context.Context, q SnapshotRequest) (*v1alpha1.DatastoreSnapshot, error) {
	if err := checkName("snapshot", q.Name); err != nil {
		return nil, err
	}
	if err := CheckID(q.Volume); err != nil {
		return nil, err
	}
	id := SnapshotID(q.Name)
	ctx = step.WithVolume(ctx, snapshotKey(id))
	defer c.copies.begin(snapshotKey(id), volumeKey(q.Volume))()
	found, err := c.config.Store.Snapshots.Get(ctx, id)
	switch {
	case err == nil:
		if err := c.repeatsSnapshot(ctx, found, q); err != nil {
			return nil, err
		}
		if found.Status.Worker.Phase != v1alpha1.Rejected {
			return c.awaitTaken(ctx, found)
		}
		if err := c.removeSnapshot(ctx, found); err != nil {
			return nil, err
		}
	case !fault.Is(err, fault.NotFound):
		return nil, err
	}
	record, err := c.snapshotOf(ctx, q)
	if err != nil {
		return nil, err
	}
	created, err := c.config.Store.Snapshots.Create(ctx, record)
	if fault.Is(err, fault.Exists) {
		return nil, fault.New(fault.Busy, "snapshot %q: another call takes it; try again", id)
	}
	if err != nil {
		return nil, err
	}
	c.accountSnapshot(created.Name, created)
	return c.awaitTaken(ctx, created)
}

// ReadyToUse tells whether volumes can be made of a snapshot.
func ReadyToUse(s *v1alpha1.DatastoreSnapshot) bool {
	return s.Status.Worker.Phase == v1alpha1.Ready && s.Spec.Deletion == nil
}

// RestoreSize is the size of the smallest volume that can be made of a snapshot, in bytes.
func RestoreSize(s *v1alpha1.DatastoreSnapshot) int64 { return restoreSize(s) }

func restoreSize(s *v1alpha1.DatastoreSnapshot) int64 {
	return max(s.Spec.Size.Value(), s.Status.Worker.Size.Value())
}

// TakenAt is the instant whose bytes a snapshot holds, in whole seconds, which is what a record keeps of it.
func TakenAt(s *v1alpha1.DatastoreSnapshot) time.Time {
	at := s.CreationTimestamp
	if s.Status.Worker.TakenAt != nil {
		at = *s.Status.Worker.TakenAt
	}
	return at.Truncate(time.Second)
}

// repeatsSnapshot says how an existing snapshot is not what is asked for, as fault.Exists.
func (c *Controller) repeatsSnapshot(ctx context.Context, s *v1alpha1.DatastoreSnapshot, q SnapshotRequest) error {
	what := ""
	switch {
	case s.Spec.Name != q.Name:
		what = "name"
	case s.Spec.Volume != q.Volume:
		what = "source volume"
	case !maps.Equal(s.Spec.Parameters, ownParameters(q.Parameters)):
		if _, _, err := snapshotParameters(q.Parameters); err != nil {
			return err
		}
		what = "parameters"
	case !q.Topology.allows(s.Spec.Worker.Host):
		what = "accessibility requirements"
	default:
		// The source may be gone by now. One of its name that is there must be the one that was copied.
		v, err := c.config.Store.Volumes.Get(ctx, q.Volume)
		if err != nil || types.UID(datastore.FromRecord(v).UID) == s.Spec.VolumeUID {
			return ignore(err, fault.NotFound)
		}
		what = "source volume, which had the same name"
	}
	return fault.New(fault.Exists, "snapshot %q (of volume %q) exists with another %s; delete it or choose another name", s.Name, s.Spec.Volume, what)
}

// snapshotOf is the record of a snapshot that can be taken now.
func (c *Controller) snapshotOf(ctx context.Context, q SnapshotRequest) (*v1alpha1.DatastoreSnapshot, error) {
	labels, size, err := snapshotParameters(q.Parameters)
	if err != nil {
		return nil, err
	}
	v, err := c.Get(ctx, q.Volume)
	if err != nil {
		return nil, err
	}
	o := originOf(v)
	if err := o.whole(); err != nil {
		return nil, err
	}
	if !q.Topology.allows(o.host) {
		return nil, fault.New(fault.Exhausted, "a snapshot lies where its source lies, %s on host %q, and that cannot be reached from %s",
			o, o.host, q.Topology.sentence())
	}
	if err := c.takesSnapshots(ctx, o, size); err != nil {
		return nil, fault.Wrap(err, "use datastore", o.datastore+" on host "+o.host)
	}
	return &v1alpha1.DatastoreSnapshot{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "DatastoreSnapshot"},
		ObjectMeta: metav1.ObjectMeta{Name: SnapshotID(q.Name), Labels: labels, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.DatastoreSnapshotSpec{
			Name: q.Name, Volume: v.Name, VolumeUID: o.uid, Datastore: o.datastore, ClusterID: c.config.ClusterID,
			Size: v.Status.Worker.Size, Provisioning: v.Spec.Provisioning, Format: v.Spec.Format, Access: v.Spec.Access,
			Filesystem: v.Spec.Filesystem.DeepCopy(), Quota: v.Spec.Quota, SnapshotSize: size, Wipe: v.Spec.Wipe,
			Parameters: ownParameters(q.Parameters),
			Worker:     v1alpha1.Worker{Host: o.host},
		},
	}, nil
}

// takesSnapshots says why the pool of a volume can't take a snapshot of it now, of that size if one was asked for.
func (c *Controller) takesSnapshots(ctx context.Context, o *origin, size string) error {
	candidates, err := c.candidates(ctx, parameters{datastore: o.datastore})
	if err != nil {
		return fault.As(fault.Unavailable, err)
	}
	at := slices.IndexFunc(candidates, func(c candidate) bool { return c.host == o.host })
	if at < 0 {
		return fault.New(fault.Unavailable, "the host does not report it now; is the driver running there?")
	}
	pool := candidates[at]
	if !pool.capabilities.Snapshot {
		return fault.New(fault.Invalid, "volumes of type %s can't be snapshot; those of %s can", pool.datastore.Spec.Type, c.snapshotTypes())
	}
	if size != "" && !pool.capabilities.SnapshotSize {
		return fault.New(fault.Invalid, "parameter %q is for thick volumes of type lvm; snapshots take what they need here", paramSnapshotSize)
	}
	if err := pool.open(); err != nil {
		return err
	}
	capable, err := c.capable(ctx)
	if err != nil {
		return err
	}
	return copyable(o.String(), o.format, o.users, pool.pool.Features, capable)
}

// snapshotTypes names the types whose volumes can be snapshot, for a sentence.
func (c *Controller) snapshotTypes() string {
	var out []string
	for _, t := range c.config.Types {
		if t.Capabilities(v1alpha1.DatastoreSpec{Type: t.Name}).Snapshot {
			out = append(out, string(t.Name))
		}
	}
	return strings.Join(out, ", ")
}

// awaitTaken waits until a snapshot is taken. A rejected record is removed before the reason is returned.
func (c *Controller) awaitTaken(ctx context.Context, r *v1alpha1.DatastoreSnapshot) (*v1alpha1.DatastoreSnapshot, error) {
	taken, err := c.awaitSnapshot(ctx, r, func(s *v1alpha1.DatastoreSnapshot) (bool, error) {
		w := &s.Status.Worker
		switch {
		case s.Spec.Deletion != nil || s.DeletionTimestamp != nil:
			return false, fault.New(fault.Busy, "snapshot %q is being deleted; try again", s.Name)
		case w.Phase == v1alpha1.Creating:
			return w.Failure == nil, nil
		}
		return w.Phase == v1alpha1.Ready || w.Phase == v1alpha1.Rejected, nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "create snapshot", r.Name)
	}
	if taken.Status.Worker.Phase != v1alpha1.Rejected {
		c.accountSnapshot(taken.Name, taken)
		return taken, nil
	}
	if err := c.removeSnapshot(ctx, taken); err != nil {
		return nil, err
	}
	return nil, rejection(taken.Status.Worker)
}

// The snapshotter's own parameters.
const (
	paramSnapshot          = provisionerPrefix + "volumesnapshot/name"
	paramSnapshotNamespace = provisionerPrefix + "volumesnapshot/namespace"
	paramSnapshotContent   = provisionerPrefix + "volumesnapshotcontent/name"
)

// paramSnapshotSize is the one parameter of a VolumeSnapshotClass.
const paramSnapshotSize = "snapshotSize"

// snapshotParameters makes labels of the snapshotter's own parameters, and reads the class's. What is unknown or can't be
// is fault.Invalid.
func snapshotParameters(in map[string]string) (labels map[string]string, size string, err error) {
	labels = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(in)) {
		switch key {
		case paramSnapshot, paramSnapshotNamespace, paramSnapshotContent:
			labels[labelKey(key)] = labelValue(in[key])
		case paramSnapshotSize:
			size = in[key]
			if _, given, err := v1alpha1.ShareOrBytes(size).Of(0); err != nil || !given {
				return nil, "", fault.New(fault.Invalid, "parameter %q: %.100q is neither a share (20%%) nor a quantity of bytes (20Gi)", key, size)
			}
		default:
			if !strings.HasPrefix(key, provisionerPrefix) {
				return nil, "", fault.New(fault.Invalid, "unknown parameter %.100q; allowed is %s", key, paramSnapshotSize)
			}
		}
	}
	return labels, size, nil
}

func ignore(err error, k fault.Kind) error {
	if fault.Is(err, k) {
		return nil
	}
	return err
}
