package stage

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Stage reaches the volume, verifies it and, unless it is a raw block volume, mounts it at the staging
// path. Staged already in the same way is success, in another way fault.Exists. Where it fails, what it
// did is undone.
func (s *Stager) Stage(ctx context.Context, q Request) error {
	ctx = step.WithVolume(ctx, q.ID)
	release, err := s.hold(q.ID)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(s.stage(ctx, q), "stage volume", q.ID)
}

func (s *Stager) stage(ctx context.Context, q Request) error {
	if err := mount.CheckPath(q.Path); err != nil {
		return err
	}
	v, err := s.get(ctx, q.ID)
	if err != nil {
		return err
	}
	r, err := s.plan(v, q)
	if err != nil {
		return err
	}
	old, err := s.records.load(q.ID)
	if err != nil {
		return err
	}
	if old != nil {
		if done, err := s.stagedAlready(ctx, old, r); done || err != nil {
			return err
		}
		// What is staged and published stays known as such, whatever becomes of this call.
		r.Targets, r.Device, r.Number, r.Dir, r.Tree = old.Targets, old.Device, old.Number, old.Dir, old.Tree
	}
	if v.Spec.Format == v1alpha1.FormatSubdirectory {
		// Nothing comes to be on the host by that, so the record is written once.
		if err := s.find(ctx, v, r); err != nil {
			return err
		}
	}
	if err := s.announce(ctx, v, r, old == nil); err != nil {
		return err
	}
	if err := s.reach(ctx, v, r); err != nil {
		if undo := s.undoUnpublished(ctx, r); undo != nil {
			// The stage record stays, so that the next call or start goes on from it.
			logger(ctx).Error(undo, "Undoing a failed staging failed", "volume", q.ID)
		}
		return err
	}
	return nil
}

// undoUnpublished undoes a staging that failed, unless the volume is in use all the same: its staging
// mount may have been taken off by hand under a consumer.
func (s *Stager) undoUnpublished(ctx context.Context, r *record) error {
	published, err := s.published(ctx, r)
	if err != nil || len(published) > 0 {
		return err
	}
	return s.undo(ctx, r)
}

// plan is the stage record that a request asks for.
func (s *Stager) plan(v *v1alpha1.DatastoreVolume, q Request) (*record, error) {
	a, err := s.attachment(v, q.Generation)
	if err != nil {
		return nil, err
	}
	if v.Spec.Access.Type != q.Access {
		return nil, fault.New(fault.Invalid, "it was made for access %s, not %s", v.Spec.Access.Type, q.Access)
	}
	r := &record{
		Version: recordVersion, ID: v.Name, UID: datastore.FromRecord(v).UID, ClusterID: v.Spec.ClusterID, Datastore: v.Spec.Datastore,
		BootID: s.config.BootID, Generation: a.Generation, Path: q.Path, Access: q.Access, Mode: q.Mode,
		ReadOnly: a.ReadOnly || readOnlyModes[q.Mode],
	}
	if r.Access == v1alpha1.Block {
		return r, nil
	}
	if v.Spec.Filesystem != nil {
		r.Filesystem = v.Spec.Filesystem.Type
	}
	if err := r.has(q.Filesystem); err != nil {
		return nil, err
	}
	r.Options, err = mountOptions(filesystem.Type(r.Filesystem), q.MountFlags, r.ReadOnly)
	r.ReadOnly = r.ReadOnly || slices.Contains(r.Options, "ro")
	return r, err
}

// has refuses a file system that the volume does not have; "" is any.
func (r *record) has(name string) error {
	switch {
	case name == "" || name == r.Filesystem:
		return nil
	case r.Filesystem == "":
		return fault.New(fault.Invalid, "it is a sub-directory and has no file system of its own, %s neither; leave the type out", name)
	}
	return fault.New(fault.Invalid, "it has file system %s, not %s", r.Filesystem, name)
}

// readOnlyModes are the access modes that allow no writer.
var readOnlyModes = map[string]bool{"SINGLE_NODE_READER_ONLY": true, "MULTI_NODE_READER_ONLY": true}

// mountOptions are the allowed ones of a capability's flags and our own: what a volume holds is its
// user's, so set-user-ID bits and device nodes mean nothing on it unless the class says otherwise.
func mountOptions(t filesystem.Type, flags []string, readOnly bool) ([]string, error) {
	options, err := filesystem.MountOptions(t, flags)
	if err != nil {
		return nil, err
	}
	options = slices.Clone(options)
	for allow, deny := range map[string]string{"suid": "nosuid", "dev": "nodev"} {
		if !slices.Contains(options, allow) && !slices.Contains(options, deny) {
			options = append(options, deny)
		}
	}
	if readOnly && !slices.Contains(options, "ro") {
		options = append(options, "ro")
	}
	slices.Sort(options)
	return slices.Compact(options), nil
}

// attachment returns this host's attachment where it is of that generation.
func (s *Stager) attachment(v *v1alpha1.DatastoreVolume, generation int64) (v1alpha1.Attachment, error) {
	a, ok := v.Spec.Attachments[s.config.Host]
	switch {
	case !ok:
		return a, fault.New(fault.Precondition, "it is not published to host %q; publish it first (ControllerPublishVolume)", s.config.Host)
	case a.Generation != generation:
		return a, fault.New(fault.Precondition, "its attachment to host %q has generation %d, the publish context says %d; publish it anew",
			s.config.Host, a.Generation, generation)
	case v.Spec.Deletion != nil:
		return a, fault.New(fault.Busy, "it is being deleted")
	}
	return a, nil
}

// stagedAlready tells whether the volume is staged as asked for. An unfinished staging is not: it goes on.
func (s *Stager) stagedAlready(ctx context.Context, old, want *record) (bool, error) {
	if old.UID != want.UID || old.BootID != s.config.BootID {
		return false, s.forget(ctx, old)
	}
	switch {
	case old.Path != want.Path:
		return false, fault.New(fault.Precondition, "it is staged at %s; unstage it there before it is staged at %s", old.Path, want.Path)
	case old.ReadOnly != want.ReadOnly || !slices.Equal(old.Options, want.Options):
		return false, fault.New(fault.Exists, "it is staged at %s with options %v, read-only %t; unstage it before it is staged with options %v, read-only %t",
			old.Path, old.Options, old.ReadOnly, want.Options, want.ReadOnly)
	case old.Generation != want.Generation || !old.reached():
		return false, nil
	case old.Access == v1alpha1.Block:
		return true, nil
	}
	p, err := s.config.Mounter.Inspect(ctx, old.Path)
	if err != nil || p.Corrupted {
		return false, err
	}
	ours, err := s.owns(ctx, old, old.Path, p)
	if !ours || err != nil || old.Device == "" {
		return ours, err
	}
	// A process that died behind its mount had not grown it.
	bytes, err := blockdev.Size(old.Device)
	if err != nil {
		return false, err
	}
	return true, s.fill(ctx, old, bytes)
}

// forget undoes a staging of an earlier boot, or of an earlier volume of the same ID.
func (s *Stager) forget(ctx context.Context, old *record) error {
	published, err := s.published(ctx, old)
	if err == nil && len(published) > 0 {
		err = fault.New(fault.Precondition, "an earlier volume of that ID (UID %s) is still published at %s; unpublish it there first",
			old.UID, strings.Join(published, ", "))
	}
	if err != nil {
		return err
	}
	if err := s.undo(ctx, old); err != nil {
		return err
	}
	old.forget()
	return nil
}

// announce says, in the volume's record and then in a stage record, that this host may be using the
// volume from now on. The write that says so also proves that the attachment is still there: where it is
// not, what was said for the first time is taken back.
func (s *Stager) announce(ctx context.Context, v *v1alpha1.DatastoreVolume, r *record, first bool) error {
	part := v1alpha1.NodeStatus{Identity: v.Status.Worker.Identity, BootID: s.config.BootID}
	now, err := store.ChangeStatus(ctx, s.config.Volumes, v.Name, func(now *v1alpha1.DatastoreVolume) error {
		if now.UID != v.UID {
			return fault.New(fault.NotFound, "volume %q was replaced by another of that name", v.Name)
		}
		if old, ok := now.Status.Nodes[s.config.Host]; ok && old == part {
			return store.Unchanged()
		}
		nodes := maps.Clone(now.Status.Nodes)
		if nodes == nil {
			nodes = map[string]v1alpha1.NodeStatus{}
		}
		nodes[s.config.Host] = part
		now.Status.Nodes = nodes
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := s.attachment(now, r.Generation); err != nil {
		if first {
			err = join(err, s.retract(ctx, r))
		}
		return err
	}
	return s.records.save(ctx, r)
}

// reach opens the volume and mounts it.
func (s *Stager) reach(ctx context.Context, v *v1alpha1.DatastoreVolume, r *record) error {
	if r.Dir != "" {
		return s.bindTree(ctx, r)
	}
	// A file system on a read-only attachment is mounted read-only, but its journal may have to be
	// replayed for that: only a raw device is made read-only itself.
	opened, err := s.open(ctx, v, r.ReadOnly && r.Access == v1alpha1.Block)
	if err != nil {
		return err
	}
	if r.Device != opened.Device {
		if r.Number, err = number(opened.Device); err != nil {
			return err
		}
		r.Device = opened.Device
		if err := s.records.save(ctx, r); err != nil {
			return err
		}
	}
	if r.Access == v1alpha1.Block {
		return nil
	}
	return s.mount(ctx, v, r, opened)
}

func (s *Stager) mount(ctx context.Context, v *v1alpha1.DatastoreVolume, r *record, opened datastore.Opened) error {
	there, err := s.vacant(ctx, r)
	if err != nil {
		return err
	}
	if there {
		return s.fill(ctx, r, opened.Bytes)
	}
	signature, err := s.verify(ctx, opened, v.Spec.Filesystem)
	if err != nil {
		return err
	}
	t := filesystem.Type(r.Filesystem)
	if err := filesystem.Check(ctx, s.config.Command, opened.Device, t); err != nil {
		return err
	}
	grow := !r.ReadOnly && filesystem.NeedsGrow(signature, opened.Bytes)
	growMounted, err := filesystem.GrowsMounted(t)
	if err != nil {
		return err
	}
	if grow && !growMounted {
		if err := filesystem.GrowUnmounted(ctx, s.config.Command, opened.Device, t); err != nil {
			return err
		}
	}
	options := r.Options
	if t == filesystem.XFS {
		// A copy has the UUID of what it was made from, and both may be mounted here.
		options = append(slices.Clone(options), "nouuid")
	}
	if opened.Discard && !r.ReadOnly && !slices.Contains(options, "nodiscard") {
		options = append(slices.Clone(options), "discard")
	}
	if err := s.config.Mounter.Mount(ctx, opened.Device, r.Path, r.Filesystem, options); err != nil {
		return err
	}
	if !grow {
		return nil
	}
	return s.fill(ctx, r, opened.Bytes)
}

// verify looks whether a device bears the file system that the worker made on it. A device that cannot be
// read is not an empty one, and nothing is ever made here.
func (s *Stager) verify(ctx context.Context, opened datastore.Opened, want *v1alpha1.FilesystemSpec) (filesystem.Signature, error) {
	found, err := filesystem.Probe(ctx, s.config.Command, opened.Device)
	if err != nil {
		return found, fault.New(fault.Unavailable, "device %s could not be probed for its %s file system: %w; it is left alone", opened.Device, want.Type, err)
	}
	if found.Type == want.Type && found.UUID == want.UUID {
		return found, nil
	}
	if found.Type != "" {
		return found, fault.New(fault.Precondition, "device %s bears %s with UUID %q, not %s with UUID %q; it is left alone",
			opened.Device, found.Type, found.UUID, want.Type, want.UUID)
	}
	blank, err := filesystem.Blank(ctx, s.config.Command, opened.Device)
	if err != nil {
		return found, fault.New(fault.Unavailable, "device %s could not be read: %w; it is left alone", opened.Device, err)
	}
	if blank {
		return found, fault.New(fault.DataLoss, "device %s reads blank, but %s with UUID %q was made on it; restore the volume from a copy, it is not formatted again",
			opened.Device, want.Type, want.UUID)
	}
	return found, fault.New(fault.Precondition, "device %s bears no file system that can be recognised, but %s with UUID %q was made on it; it is left alone",
		opened.Device, want.Type, want.UUID)
}
