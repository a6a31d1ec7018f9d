package stage

import (
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// A driver that lost its state lost its stage records too. Its volumes' records, recovered from their marks, say
// which of them this host uses; what is mounted says the rest.

// lost returns a stage record of what a volume is on this host that has none, as if it were staged at a path and
// published at another ("" where it is not asked for); nil where it is not in use here.
func (s *Stager) lost(ctx context.Context, id, staging, published string) (*record, error) {
	v, err := s.config.Volumes.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if used, err := s.usedUnrecorded(ctx, v); err != nil || !used {
		return nil, err
	}
	r := &record{
		Version: recordVersion, ID: v.Name, UID: datastore.FromRecord(v).UID, ClusterID: v.Spec.ClusterID, Datastore: v.Spec.Datastore,
		BootID: s.config.BootID, Path: staging, Access: v.Spec.Access.Type,
	}
	if v.Spec.Filesystem != nil {
		r.Filesystem = v.Spec.Filesystem.Type
	}
	if v.Spec.Format == v1alpha1.FormatSubdirectory {
		return r, s.find(ctx, v, r)
	}
	return r, s.recognize(ctx, v, r, published)
}

// recognize puts into a stage record which device the volume is. A raw one may be attached once to be written and
// once to be read: it is the one that is published.
func (s *Stager) recognize(ctx context.Context, v *v1alpha1.DatastoreVolume, r *record, published string) error {
	for _, readOnly := range []bool{false, true} {
		opened, err := s.open(ctx, v, readOnly)
		if err != nil {
			return err
		}
		r.Device = opened.Device
		if r.Number, err = number(r.Device); err != nil || r.Access != v1alpha1.Block || published == "" {
			return err
		}
		p, err := s.config.Mounter.Inspect(ctx, published)
		if err != nil {
			return err
		}
		if p.IsMount && p.Rdev == r.Number {
			r.Targets = map[string]target{published: {ReadOnly: readOnly, Number: r.Number}}
			return nil
		}
	}
	return nil
}

// usedUnrecorded tells whether a volume's record says that this host uses it in its present boot, and it does.
func (s *Stager) usedUnrecorded(ctx context.Context, v *v1alpha1.DatastoreVolume) (bool, error) {
	if part, ok := v.Status.Nodes[s.config.Host]; !ok || part.BootID != s.config.BootID {
		return false, nil
	}
	pool, err := s.config.Set.Pool(ctx, v.Spec.Datastore)
	if err != nil {
		return false, fault.As(fault.Unavailable, err)
	}
	return datastore.InUse(ctx, pool, datastore.FromRecord(v))
}

// unstageLost undoes what is left of a volume on this host that has no stage record, unless it is still published.
func (s *Stager) unstageLost(ctx context.Context, r *record) error {
	p, err := s.config.Mounter.Inspect(ctx, r.Path)
	if err != nil {
		return err
	}
	ours, err := s.owns(ctx, r, r.Path, p)
	if err != nil {
		return err
	}
	if p.IsMount && !ours {
		return fault.New(fault.Precondition, "what is mounted at %s is not this volume; it is left alone", r.Path)
	}
	mounts, err := s.mountsOf(ctx, r)
	if err != nil {
		return err
	}
	var others []string
	for _, m := range mounts {
		if m.MountPoint != r.Path {
			others = append(others, m.MountPoint)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		return fault.New(fault.Precondition, "it is still mounted at %s; unpublish it there first", strings.Join(others, ", "))
	}
	return s.undo(ctx, r)
}

// mountsOf returns all mounts of what a volume is on this host. A raw device that is bound somewhere is not among
// them: who has it open keeps it.
func (s *Stager) mountsOf(ctx context.Context, r *record) ([]mount.Entry, error) {
	if r.Dir == "" {
		return s.config.Mounter.OfDevice(ctx, int(unix.Major(r.Number)), int(unix.Minor(r.Number)), r.Device)
	}
	root, err := file.OpenRoot(r.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	dir, err := root.OpenDir(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	return s.config.Mounter.OfDirectory(ctx, dir, path.Base(path.Dir(r.Dir)))
}
