package stage

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// stagingMode is what an unstaged path is given back as.
const stagingMode = 0o750

// Unstage undoes Stage. A volume that is not staged is success; one that is still published is
// fault.Precondition.
func (s *Stager) Unstage(ctx context.Context, id, path string) error {
	ctx = step.WithVolume(ctx, id)
	release, err := s.hold(id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(s.unstage(ctx, id, path), "unstage volume", id)
}

func (s *Stager) unstage(ctx context.Context, id, path string) error {
	if err := mount.CheckPath(path); err != nil {
		return err
	}
	r, err := s.records.load(id)
	if err != nil {
		return err
	}
	if r == nil {
		if r, err = s.lost(ctx, id, path, ""); err != nil {
			return err
		}
		if r != nil {
			return s.unstageLost(ctx, r)
		}
		return s.unstaged(ctx, id, path)
	}
	if r.Path != path {
		return fault.New(fault.Precondition, "it is staged at %s, not at %s", r.Path, path)
	}
	published, err := s.published(ctx, r)
	if err != nil {
		return err
	}
	if len(published) > 0 {
		return fault.New(fault.Precondition, "it is still published at %s; unpublish it there first", strings.Join(published, ", "))
	}
	return s.undo(ctx, r)
}

// unstaged handles a volume without stage record: nothing of it can be mounted here.
func (s *Stager) unstaged(ctx context.Context, id, path string) error {
	p, err := s.config.Mounter.Inspect(ctx, path)
	if err != nil {
		return err
	}
	if p.IsMount {
		return fault.New(fault.Precondition, "it is not staged here, and what is mounted at %s is not known; it is left alone", path)
	}
	return s.retract(ctx, &record{ID: id})
}

// undo takes off the staging mount, closes the volume and takes back what announce said. It may be called
// again at any point.
func (s *Stager) undo(ctx context.Context, r *record) error {
	if err := s.thaw(ctx, r); err != nil {
		return err
	}
	p, err := s.config.Mounter.Inspect(ctx, r.Path)
	if err != nil {
		return err
	}
	ours, err := s.owns(ctx, r, r.Path, p)
	if err != nil {
		return err
	}
	if ours || (p.Corrupted && r.BootID == s.config.BootID && r.reached()) {
		if err := s.config.Mounter.Unmount(ctx, r.Path); err != nil {
			return err
		}
		p.IsMount = false
	}
	if p.IsDir && !p.IsMount && r.Access == v1alpha1.Filesystem {
		if err := s.config.Mounter.SetMode(ctx, r.Path, stagingMode); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	if err := s.close(ctx, r); err != nil {
		return err
	}
	if err := s.retract(ctx, r); err != nil {
		return err
	}
	return s.records.remove(ctx, r.ID)
}

// close lets go of what the volume is on this host. A directory needs nothing of that, and so its datastore needn't
// answer.
func (s *Stager) close(ctx context.Context, r *record) error {
	if r.Dir != "" {
		return nil
	}
	pool, err := s.config.Set.Leave(ctx, r.Datastore)
	if err != nil {
		return fault.As(fault.Unavailable, err)
	}
	return pool.Close(ctx, r.volume())
}

// retract removes this host's part from the volume's record. A record that is gone, or another volume's
// by now, needs none.
func (s *Stager) retract(ctx context.Context, r *record) error {
	_, err := store.ChangeStatus(ctx, s.config.Volumes, r.ID, func(now *v1alpha1.DatastoreVolume) error {
		_, ok := now.Status.Nodes[s.config.Host]
		if !ok || (r.UID != "" && datastore.FromRecord(now).UID != r.UID) {
			return store.Unchanged()
		}
		delete(now.Status.Nodes, s.config.Host)
		return nil
	})
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil
	}
	return err
}

// published are the targets at which the volume is still mounted, sorted.
func (s *Stager) published(ctx context.Context, r *record) ([]string, error) {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(r.Targets)) {
		p, err := s.config.Mounter.Inspect(ctx, path)
		if err != nil {
			return nil, err
		}
		ours, err := s.ownsTarget(ctx, r, path, p)
		if err != nil {
			return nil, err
		}
		if ours {
			out = append(out, path)
		}
	}
	return out, nil
}

func join(errs ...error) error {
	var first error
	for _, err := range errs {
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			first = fault.As(fault.KindOf(first), errors.Join(first, err))
		}
	}
	return first
}

func logger(ctx context.Context) klog.Logger { return klog.FromContext(ctx).WithName("stage") }
