package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// origin is what a copy is made of: a volume or a snapshot, as its record says now.
type origin struct {
	kind            v1alpha1.SourceKind
	id              string
	uid             types.UID // that its mark on the storage bears
	datastore, host string
	bytes           int64
	format          v1alpha1.VolumeFormat
	access          v1alpha1.AccessType
	filesystem      *v1alpha1.FilesystemSpec
	worker          v1alpha1.WorkerStatus
	deleted         bool
	users           []string // hosts that a volume is attached to, or that may still be using it
}

// check refuses a source that names nothing. A nil one is fine.
func (s *Source) check() error {
	switch {
	case s == nil:
		return nil
	case s.Kind == v1alpha1.SourceSnapshot:
		return CheckSnapshotID(s.ID)
	case s.Kind == v1alpha1.SourceVolume:
		return CheckID(s.ID)
	}
	return fault.New(fault.Invalid, "the content source is neither a volume nor a snapshot")
}

func (o *origin) String() string {
	return fmt.Sprintf("%s %q", strings.ToLower(string(o.kind)), o.id)
}

// filesystemType is "" for a nil origin, too.
func (o *origin) filesystemType() string {
	if o == nil || o.filesystem == nil {
		return ""
	}
	return o.filesystem.Type
}

func (o *origin) copiedBy(c datastore.Capabilities) bool {
	if o.kind == v1alpha1.SourceSnapshot {
		return c.Snapshot
	}
	return c.Clone
}

// originOf is a volume as the source of a copy.
func originOf(v *v1alpha1.DatastoreVolume) *origin {
	return &origin{
		kind: v1alpha1.SourceVolume, id: v.Name, uid: types.UID(datastore.FromRecord(v).UID),
		datastore: v.Spec.Datastore, host: v.Spec.Worker.Host, bytes: v.Status.Worker.Size.Value(),
		format: v.Spec.Format, access: v.Spec.Access.Type, filesystem: v.Spec.Filesystem,
		worker: v.Status.Worker, deleted: v.Spec.Deletion != nil || v.DeletionTimestamp != nil, users: users(v),
	}
}

// originOfSnapshot is a snapshot as the source of a copy.
func originOfSnapshot(s *v1alpha1.DatastoreSnapshot) *origin {
	return &origin{
		kind: v1alpha1.SourceSnapshot, id: s.Name, uid: types.UID(datastore.FromSnapshot(s).UID),
		datastore: s.Spec.Datastore, host: s.Spec.Worker.Host, bytes: restoreSize(s),
		format: s.Spec.Format, access: s.Spec.Access.Type, filesystem: s.Spec.Filesystem,
		worker: s.Status.Worker, deleted: s.Spec.Deletion != nil || s.DeletionTimestamp != nil,
	}
}

// origin finds what a copy is to be made of. A nil source is none. What is not there, or not any more, is
// fault.NotFound.
func (c *Controller) origin(ctx context.Context, s *Source) (*origin, error) {
	if s == nil {
		return nil, nil
	}
	var o *origin
	if s.Kind == v1alpha1.SourceSnapshot {
		found, err := c.Snapshot(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		o = originOfSnapshot(found)
	} else {
		found, err := c.Get(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		o = originOf(found)
	}
	return o, o.whole()
}

// whole says whether there is anything to copy now.
func (o *origin) whole() error {
	switch {
	case o.deleted:
		return fault.New(fault.Busy, "%s is being deleted; nothing is copied from it any more", o)
	case o.worker.Phase != v1alpha1.Ready:
		return fault.New(fault.Unavailable, "%s is not ready yet%s; try again when it is", o, progress(o.worker.Progress))
	}
	return nil
}

// takes says how a request can't be a copy of it: a copy has the access type, the file system and the format of
// its source, and lies on its datastore.
func (o *origin) takes(q CreateRequest, p parameters, w wish, on []string) error {
	switch {
	case q.Access.Type != o.access:
		return fault.New(fault.Invalid, "%s was made for access %s, and a copy of it can't have %s", o, o.access, q.Access.Type)
	case w.explicit != "" && o.filesystem != nil && w.explicit != o.filesystem.Type:
		return fault.New(fault.Invalid, "%s has file system %s, and a copy of it can't have %s", o, o.filesystem.Type, w.explicit)
	case p.format != "" && p.format != o.format:
		return fault.New(fault.Invalid, "%s is of format %s, and a copy of it can't be of format %s", o, o.format, p.format)
	case !slices.Contains(on, o.datastore):
		return fault.New(fault.Invalid, "%s lies on datastore %q, and a copy of it can't lie on another; name that one, or none", o, o.datastore)
	}
	return nil
}

// size is the range of sizes that a copy can have where that much is asked for: no smaller than the source. What is
// asked for is compared as it would be made, since the source's size may have been rounded up from the same.
func (o *origin) size(asked Range, c datastore.Capabilities) (Range, error) {
	least := leastBytes(c, datastore.Volume{Format: o.format, Filesystem: o.filesystem})
	made, ok := roundUp(max(asked.Required, least), c.Granularity)
	switch {
	case asked.Required > 0 && ok && made < o.bytes:
		return asked, fault.New(fault.OutOfRange, "%s has %d bytes; a copy of it can't have %d", o, o.bytes, asked.Required)
	case asked.Limit > 0 && asked.Limit < o.bytes:
		return asked, fault.New(fault.OutOfRange, "%s has %d bytes; a copy of it can't have %d at most", o, o.bytes, asked.Limit)
	}
	asked.Required = max(asked.Required, o.bytes)
	return asked, nil
}

// copyOfFilesystem is the file system of a copy: the source's. The worker gives btrfs another UUID, since the
// kernel knows file systems of that type by it.
func (o *origin) copyOfFilesystem(newUUID func() string) *v1alpha1.FilesystemSpec {
	if o.filesystem == nil {
		return nil
	}
	out := &v1alpha1.FilesystemSpec{Type: o.filesystem.Type, UUID: o.filesystem.UUID}
	if out.Type == string(filesystem.Btrfs) {
		out.UUID = newUUID()
	}
	return out
}

// copyable says whether a pool with those features can copy a volume of that format now. Capable are the
// pools that can copy at one instant.
func copyable(object string, format v1alpha1.VolumeFormat, users []string, features []v1alpha1.Feature, capable map[v1alpha1.VolumeFormat][]string) error {
	if datastore.CopiesInUse(format, features) {
		return nil
	}
	others := ""
	if pools := capable[format]; len(pools) > 0 {
		others = " (here: " + strings.Join(pools, ", ") + ")"
	}
	switch {
	case format == v1alpha1.FormatSubdirectory:
		return fault.New(fault.Invalid, "%s is a sub-directory, and those are copied on btrfs only%s; use format image where copies are needed",
			object, others)
	case len(users) > 0:
		return fault.New(fault.Precondition, "%s is used by %s, and this datastore copies only what is not in use: unpublish it there first; "+
			"datastores of type lvm, and those whose file system shares blocks (xfs with reflink, btrfs), copy what is in use%s", object, strings.Join(users, ", "), others)
	}
	return nil
}

// capable names the pools that copy volumes at one instant, by format.
func (c *Controller) capable(ctx context.Context) (map[v1alpha1.VolumeFormat][]string, error) {
	hosts, err := c.config.Store.Hosts.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[v1alpha1.VolumeFormat][]string{}
	for _, h := range hosts {
		for name, pool := range h.Status.Pools {
			for _, format := range []v1alpha1.VolumeFormat{v1alpha1.FormatImage, v1alpha1.FormatSubdirectory, v1alpha1.FormatDevice} {
				if datastore.CopiesInUse(format, pool.Features) {
					out[format] = append(out[format], name+" on host "+h.Name)
				}
			}
		}
	}
	for _, pools := range out {
		slices.Sort(pools)
	}
	return out, nil
}

// progress writes how far a copy is, for a sentence.
func progress(p *v1alpha1.Progress) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf(" (%d of %d bytes are copied)", p.Done.Value(), p.Total.Value())
}
