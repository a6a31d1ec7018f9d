package controller

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Publish lets a host use a volume, and returns the generation of its attachment. An attachment of that
// host which differs is fault.Exists.
func (c *Controller) Publish(ctx context.Context, q PublishRequest) (int64, error) {
	ctx = step.WithVolume(ctx, q.ID)
	v, err := c.Get(ctx, q.ID)
	if err != nil {
		return 0, err
	}
	h, err := c.config.Store.Hosts.Get(ctx, q.Host)
	if err != nil {
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
			return 0, fault.New(fault.NotFound, "host %.253q does not exist", q.Host)
		}
		return 0, err
	}
	if err := c.usable(ctx, v, q); err != nil {
		return 0, err
	}
	exclusive := !datastore.CopiesInUse(v.Spec.Format, h.Status.Pools[v.Spec.Datastore].Features)
	again := attachedTo(v, q.Host)
	if exclusive && !again {
		// Looked for before, so that calls that are refused again and again do not disturb the copy with attachments
		// that are taken back; and once more after the write, which one that began meanwhile must see.
		if err := c.underWay(ctx, volumeKey(q.ID)); err != nil {
			return 0, fault.Wrap(err, "publish volume", q.ID)
		}
	}
	if q.MaxVolumes > 0 && !again {
		if err := c.reserveAttachment(q.ID, q.Host, q.MaxVolumes); err != nil {
			return 0, err
		}
	}
	v, err = store.Change(ctx, c.config.Store.Volumes, q.ID, func(v *v1alpha1.DatastoreVolume) error { return attach(v, q) })
	if err != nil {
		if now, lookup := c.config.Store.Volumes.Get(context.WithoutCancel(ctx), q.ID); lookup == nil {
			c.account(q.ID, now)
		}
		return 0, fault.Wrap(err, "publish volume", q.ID)
	}
	if exclusive {
		err = c.giveWay(ctx, v, q.Host, again)
	}
	return v.Spec.Attachments[q.Host].Generation, fault.Wrap(err, "publish volume", q.ID)
}

// giveWay takes an attachment back that was written while the volume is being copied by a pool that can copy
// only what is not in use. A copy is begun the other way round: it is told of first, and then looks for
// attachments. So whichever comes second sees the first.
//
// An attachment that was there before this call may have been answered. Then no copy came as far as a record: one that
// has a record came before an attachment whose call died here.
func (c *Controller) giveWay(ctx context.Context, attached *v1alpha1.DatastoreVolume, host string, again bool) error {
	look := c.underWay
	if again {
		look = c.recorded
	}
	why := look(ctx, volumeKey(attached.Name))
	if why == nil {
		return nil
	}
	v, err := store.Change(ctx, c.config.Store.Volumes, attached.Name, func(v *v1alpha1.DatastoreVolume) error {
		_, used := v.Status.Nodes[host]
		if used || v.Spec.Attachments[host] != attached.Spec.Attachments[host] {
			return store.Unchanged()
		}
		delete(v.Spec.Attachments, host)
		return nil
	})
	if err != nil {
		return err
	}
	c.account(v.Name, v)
	return why
}

// usable refuses what the volume, or its datastore, can never be used as.
func (c *Controller) usable(ctx context.Context, v *v1alpha1.DatastoreVolume, q PublishRequest) error {
	if err := Supports(v, q.Use); err != nil {
		return err
	}
	d, err := c.config.Store.Datastores.Get(ctx, v.Spec.Datastore)
	if err != nil {
		return fault.As(fault.Unavailable, err)
	}
	capabilities, ok := c.capabilities(d)
	if !ok {
		return fault.New(fault.Unavailable, "datastore %q: type %q is not served by this version", d.Name, d.Spec.Type)
	}
	if lacks := missingModes(capabilities, []string{q.Mode}); lacks != "" {
		return fault.New(fault.Invalid, "volume %q: %s", v.Name, lacks)
	}
	if capabilities.Reach == datastore.ReachHost && q.Host != v.Spec.Worker.Host {
		return fault.New(fault.Precondition, "volume %q lies on host %q and can be used there only, not on host %.253q",
			v.Name, v.Spec.Worker.Host, q.Host)
	}
	return nil
}

// Supports says, as fault.Invalid, how a volume cannot be used in a way.
func Supports(v *v1alpha1.DatastoreVolume, u Use) error {
	switch {
	case v.Spec.Access.Type != u.Access:
		return fault.New(fault.Invalid, "volume %q was made for access %s, not %s", v.Name, v.Spec.Access.Type, u.Access)
	case u.Access == v1alpha1.Block:
		return nil
	case v.Spec.Filesystem == nil && u.Filesystem != "":
		return fault.New(fault.Invalid, "volume %q is a sub-directory with the file system of its datastore; file system %.100q can't be asked for",
			v.Name, u.Filesystem)
	case v.Spec.Filesystem == nil:
		_, err := filesystem.MountOptions(filesystem.Tree, u.MountFlags)
		return fault.Wrap(err, "use volume", v.Name)
	case u.Filesystem != "" && u.Filesystem != v.Spec.Filesystem.Type:
		return fault.New(fault.Invalid, "volume %q has file system %s, not %.100q", v.Name, v.Spec.Filesystem.Type, u.Filesystem)
	}
	_, err := filesystem.MountOptions(filesystem.Type(v.Spec.Filesystem.Type), u.MountFlags)
	return fault.Wrap(err, "use volume", v.Name)
}

// SameParameters says, as fault.Invalid, how a StorageClass's parameters are not those of a volume.
func SameParameters(v *v1alpha1.DatastoreVolume, in map[string]string) error {
	own := ownParameters(in)
	if maps.Equal(own, v.Spec.Parameters) {
		return nil
	}
	if _, err := parseParameters(in); err != nil {
		return err
	}
	return fault.New(fault.Invalid, "volume %q was made with parameters %v, not %v", v.Name, v.Spec.Parameters, own)
}

// attach adds a host to a record's attachments.
func attach(v *v1alpha1.DatastoreVolume, q PublishRequest) error {
	if v.Spec.Deletion != nil || v.DeletionTimestamp != nil {
		return fault.New(fault.Busy, "it is being deleted")
	}
	if v.Status.Worker.Phase != v1alpha1.Ready {
		return fault.New(fault.Unavailable, "it is not ready yet; try again")
	}
	if old, ok := v.Spec.Attachments[q.Host]; ok {
		if old.ReadOnly != q.ReadOnly || old.Access != q.Mode {
			return fault.New(fault.Exists, "host %q has it as %s, read-only %t; unpublish it before it is published as %s, read-only %t",
				q.Host, old.Access, old.ReadOnly, q.Mode, q.ReadOnly)
		}
		return store.Unchanged()
	}
	// A volume that one node at a time may use is refused to the second, whether the first is attached
	// or only was and may still be using it.
	if others := slices.DeleteFunc(users(v), func(h string) bool { return h == q.Host }); len(others) > 0 {
		return fault.New(fault.Precondition, "it is used by host %s; %s allows one host", strings.Join(others, ", "), q.Mode)
	}
	attachments := maps.Clone(v.Spec.Attachments)
	if attachments == nil {
		attachments = map[string]v1alpha1.Attachment{}
	}
	// The write that stores it raises the record's generation by one.
	attachments[q.Host] = v1alpha1.Attachment{Access: q.Mode, ReadOnly: q.ReadOnly, Generation: v.Generation + 1}
	v.Spec.Attachments = attachments
	return nil
}

// Unpublish takes a volume from a host, or from all where host is empty. A volume that is not there, or
// not attached, is success. All volumes of this version are reached by one host only, so that no other
// can be given one that its host still uses: its own record of use holds the volume against deletion.
func (c *Controller) Unpublish(ctx context.Context, id, host string) error {
	ctx = step.WithVolume(ctx, id)
	if _, err := c.Get(ctx, id); err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	}
	v, err := store.Change(ctx, c.config.Store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		switch {
		case len(v.Spec.Attachments) == 0, host != "" && !attachedTo(v, host):
			return store.Unchanged()
		case host == "":
			v.Spec.Attachments = nil
		default:
			delete(v.Spec.Attachments, host)
		}
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, "unpublish volume", id)
	}
	c.account(id, v)
	return nil
}
