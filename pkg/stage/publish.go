package stage

import (
	"context"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const (
	targetDirMode  = 0o750
	targetFileMode = 0o640
)

// manyTargets tells whether an access mode allows several targets on one host (CSI specification,
// NodePublishVolume, second table).
func manyTargets(mode string) bool {
	return mode == "SINGLE_NODE_MULTI_WRITER" || strings.HasPrefix(mode, "MULTI_NODE_")
}

// Publish makes a staged volume visible at a target path: the staged mount as a bind mount, or a raw block
// volume as a device node. Published there already in the same way is success, in another way
// fault.Exists. A volume that is not staged is fault.Precondition.
func (s *Stager) Publish(ctx context.Context, q PublishRequest) error {
	ctx = step.WithVolume(ctx, q.ID)
	release, err := s.hold(q.ID)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(s.publish(ctx, q), "publish volume", q.ID)
}

func (s *Stager) publish(ctx context.Context, q PublishRequest) error {
	for _, path := range []string{q.Path, q.StagingPath} {
		if err := mount.CheckPath(path); err != nil {
			return err
		}
	}
	v, err := s.get(ctx, q.ID)
	if err != nil {
		return err
	}
	r, err := s.records.load(q.ID)
	if err != nil {
		return err
	}
	want, err := s.publishable(r, q)
	if err != nil {
		return err
	}
	source := r.Path
	if r.Access == v1alpha1.Block {
		// A device node can be written through a read-only mount, so a read-only one is a device of its own.
		opened, err := s.open(ctx, v, want.ReadOnly)
		if err != nil {
			return err
		}
		source = opened.Device
		if want.Number, err = number(source); err != nil {
			return err
		}
	}
	if done, err := s.publishedAlready(ctx, r, q, want); done || err != nil {
		return err
	}
	next := r.with()
	next.Targets[q.Path] = want
	if err := s.records.save(ctx, next); err != nil {
		return err
	}
	return s.bind(ctx, next, source, q.Path, want)
}

// publishable refuses what does not match the staged volume, and returns how it is to be published.
func (s *Stager) publishable(r *record, q PublishRequest) (target, error) {
	var none target
	switch {
	case r == nil || r.BootID != s.config.BootID || !r.reached():
		return none, fault.New(fault.Precondition, "it is not staged on host %q; stage it first", s.config.Host)
	case r.Path != q.StagingPath:
		return none, fault.New(fault.Precondition, "it is staged at %s, not at %s", r.Path, q.StagingPath)
	case r.Access != q.Access:
		return none, fault.New(fault.Invalid, "it is staged for access %s, not %s", r.Access, q.Access)
	case q.Path == r.Path || strings.HasPrefix(q.Path, r.Path+"/"):
		return none, fault.New(fault.Invalid, "the target path %s lies in the staging path", q.Path)
	}
	want := target{ReadOnly: q.ReadOnly || r.ReadOnly || readOnlyModes[q.Mode]}
	if r.Access == v1alpha1.Block {
		return want, nil
	}
	if err := r.has(q.Filesystem); err != nil {
		return none, err
	}
	// The staged mount has its options; those given here must be allowed ones all the same.
	options, err := filesystem.MountOptions(filesystem.Type(r.Filesystem), q.MountFlags)
	want.ReadOnly = want.ReadOnly || slices.Contains(options, "ro")
	return want, err
}

// publishedAlready tells whether the target shows the volume as asked for, and refuses a second target of
// a volume that allows one.
func (s *Stager) publishedAlready(ctx context.Context, r *record, q PublishRequest, want target) (bool, error) {
	p, err := s.config.Mounter.Inspect(ctx, q.Path)
	if err != nil {
		return false, err
	}
	ours, err := s.ownsTarget(ctx, r, q.Path, p)
	if err != nil {
		return false, err
	}
	if ours {
		if old, ok := r.Targets[q.Path]; ok && old.ReadOnly != want.ReadOnly {
			return false, fault.New(fault.Exists, "it is published at %s with read-only %t; unpublish it before it is published with read-only %t",
				q.Path, old.ReadOnly, want.ReadOnly)
		}
		return true, nil
	}
	if p.IsMount {
		return false, fault.New(fault.Precondition, "something else is mounted at the target path %s; it is left alone", q.Path)
	}
	if manyTargets(q.Mode) {
		return false, nil
	}
	others, err := s.published(ctx, r)
	if err == nil && len(others) > 0 {
		err = fault.New(fault.Precondition, "it is published at %s, and %s allows one target", strings.Join(others, ", "), q.Mode)
	}
	return false, err
}

// bind makes the target and binds the volume there. Where that fails, what it made is removed.
func (s *Stager) bind(ctx context.Context, r *record, source, path string, want target) error {
	verify := func(p mount.Point) error { return s.verifySource(ctx, r, source, p, want) }
	p, err := s.config.Mounter.Inspect(ctx, source)
	if err != nil {
		return err
	}
	// Judged here, so that nothing is made for a volume that is not there, and again on what is bound.
	if err := verify(p); err != nil {
		return err
	}
	made := false
	if r.Access == v1alpha1.Block {
		made, err = s.config.Mounter.MakeFileTarget(ctx, path, targetFileMode)
	} else {
		made, err = s.config.Mounter.MakeDirTarget(ctx, path, targetDirMode)
	}
	if err != nil {
		return err
	}
	err = s.config.Mounter.Bind(ctx, source, path, mount.BindOptions{ReadOnly: want.ReadOnly, Verify: verify})
	if err != nil && made {
		return join(err, s.config.Mounter.RemoveTarget(ctx, path))
	}
	return err
}

// verifySource refuses to bind anything but the volume.
func (s *Stager) verifySource(ctx context.Context, r *record, source string, p mount.Point, want target) error {
	if r.Access == v1alpha1.Block {
		if p.Rdev != want.Number {
			return fault.New(fault.Precondition, "%s is not the volume's device", source)
		}
		return nil
	}
	ours, err := s.owns(ctx, r, source, p)
	if err == nil && !ours {
		err = fault.New(fault.Precondition, "the volume is not mounted at its staging path %s; unstage and stage it again", source)
	}
	return err
}

// ownsTarget tells whether what is mounted at a target is the volume.
func (s *Stager) ownsTarget(ctx context.Context, r *record, path string, p mount.Point) (bool, error) {
	if r.Access != v1alpha1.Block {
		return s.owns(ctx, r, path, p)
	}
	t, ok := r.Targets[path]
	return ok && p.IsMount && p.Rdev == t.Number && r.BootID == s.config.BootID, nil
}

// Unpublish takes a volume off a target path and removes the path. Not published there is success. What
// else is mounted there, and content that lies there, are left alone: fault.Precondition.
func (s *Stager) Unpublish(ctx context.Context, id, path string) error {
	ctx = step.WithVolume(ctx, id)
	release, err := s.hold(id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(s.unpublish(ctx, id, path), "unpublish volume", id)
}

func (s *Stager) unpublish(ctx context.Context, id, path string) error {
	if err := mount.CheckPath(path); err != nil {
		return err
	}
	r, err := s.records.load(id)
	if err != nil {
		return err
	}
	if r == nil {
		if r, err = s.lost(ctx, id, "", path); err != nil {
			return err
		}
	}
	if r == nil {
		r = &record{ID: id}
	}
	if path == r.Path {
		return fault.New(fault.Invalid, "%s is the staging path, not a target", path)
	}
	p, err := s.config.Mounter.Inspect(ctx, path)
	if err != nil {
		return err
	}
	_, known := r.Targets[path]
	ours, err := s.ownsTarget(ctx, r, path, p)
	if err != nil {
		return err
	}
	switch {
	case ours || (p.Corrupted && known):
		if err := s.config.Mounter.Unmount(ctx, path); err != nil {
			return err
		}
	case p.IsMount || p.Corrupted:
		return fault.New(fault.Precondition, "what is mounted at %s is not this volume; it is left alone", path)
	}
	if !known || r.Path == "" {
		return s.removeLeftover(ctx, id, path)
	}
	if err := s.config.Mounter.RemoveTarget(ctx, path); err != nil {
		return err
	}
	next := r.with()
	delete(next.Targets, path)
	return s.records.save(ctx, next)
}

// removeLeftover removes an empty target that no stage record names: a reboot took its mount and then the
// record. Of a volume that nobody knows there can be none, so the path is somebody else's.
func (s *Stager) removeLeftover(ctx context.Context, id, path string) error {
	_, err := s.get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.config.Mounter.RemoveTarget(ctx, path)
}
