package stage

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// again is how a volume that is no longer what was staged is brought back.
const again = "end the pods that use it here, so that it is unstaged and staged anew"

// device looks at the block device that the volume is on this host.
func (e *examination) device() {
	r, want := e.record, e.volume.Status.Worker.Size
	bytes, err := blockdev.Size(r.Device)
	switch {
	case err != nil:
		e.add(inaccessible, "DeviceGone", "%v; %s", err, again)
		return
	case bytes < want.Value():
		e.add(dataLoss, "DeviceTooSmall", "its device %s has %d bytes, the volume %d: the end of it is gone; save what can be read", r.Device, bytes, want.Value())
	}
	if image, gone, err := blockdev.Backing(r.Device); err == nil && gone {
		e.add(dataLoss, "ImageGone", "its image %s was removed while device %s has it open: copy what is in the volume before it is unstaged", image, r.Device)
	}
}

// directory looks at the directory that the volume is.
func (e *examination) directory(ctx context.Context) {
	r := e.record
	p, err := e.stager.config.Mounter.Inspect(ctx, r.Dir)
	switch {
	case err != nil:
		e.add(inaccessible, "DirectoryUnreadable", "%v", err)
	case p.Corrupted:
		e.add(inaccessible, "FilesystemFails", "the file system of its directory %s answers with errors; look at the kernel's log, and repair it", r.Dir)
	case !p.Exists:
		e.add(dataLoss, "DirectoryGone", "its directory %s was removed; copy what is still open, and restore it from a backup or snapshot", r.Dir)
	case !r.isTree(p):
		e.add(inaccessible, "DirectoryReplaced", "%s is another directory than the one that is staged; %s", r.Dir, again)
	}
}

// staged looks at the volume's mount.
func (e *examination) staged(ctx context.Context) {
	r := e.record
	p, err := e.stager.config.Mounter.Inspect(ctx, r.Path)
	ours := false
	if err == nil && !p.Corrupted {
		ours, err = e.stager.owns(ctx, r, r.Path, p)
	}
	switch {
	case err != nil:
		e.add(inaccessible, "MountUnreadable", "%v", err)
	case p.Corrupted:
		e.add(inaccessible, "FilesystemFails", "the file system at %s answers with errors (%s may have shut it down); look at the kernel's log; %s",
			r.Path, r.Filesystem, again)
	case !p.IsMount:
		e.add(inaccessible, "NotMounted", "nothing is mounted at its staging path %s; was it unmounted by hand? %s", r.Path, again)
	case !ours:
		e.add(inaccessible, "OtherMount", "what is mounted at its staging path %s is not the volume; unmount it, and %s", r.Path, again)
	default:
		e.writable(p)
		e.filesystem()
	}
}

// writable looks whether the kernel took a file system for one that must not be written to any more.
func (e *examination) writable(p mount.Point) {
	r := e.record
	if !p.ReadOnly || r.ReadOnly {
		return
	}
	e.add(degraded, "FilesystemReadOnly", "its file system at %s turned read-only, as after an error; look at the kernel's log, and %s", r.Path, again)
}

// filesystem asks a file system for the errors that it has recorded.
func (e *examination) filesystem() {
	r := e.record
	var errors int64
	var err error
	switch filesystem.Type(r.Filesystem) {
	case filesystem.Ext4:
		errors, err = filesystem.ErrorCount(r.Device)
	case filesystem.Btrfs:
		errors, err = btrfsErrors(r.Path)
	}
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		e.add(degraded, "FilesystemUnknown", "%v", err)
	case errors > 0:
		e.add(degraded, "FilesystemErrors", "its %s has recorded %d errors; %s, and it is checked", r.Filesystem, errors, again)
	}
}

func btrfsErrors(path string) (int64, error) {
	root, err := file.OpenRoot(path)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	dir, err := root.OpenDir(".")
	if err != nil {
		return 0, err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	return btrfs.DeviceErrors(dir)
}

// published looks at a path at which the volume is thought to be published.
func (e *examination) published(ctx context.Context) {
	p, err := e.stager.config.Mounter.Inspect(ctx, e.target)
	ours := false
	if err == nil && !p.Corrupted {
		ours, err = e.stager.ownsTarget(ctx, e.record, e.target, p)
	}
	what := "mounted"
	if e.record.Access == v1alpha1.Block {
		what = "bound"
	}
	switch {
	case err != nil:
		e.add(inaccessible, "TargetUnreadable", "%v", err)
	case p.Corrupted:
		e.add(inaccessible, "FilesystemFails", "the file system at %s answers with errors; look at the kernel's log; %s", e.target, again)
	case !p.IsMount:
		e.add(inaccessible, "NotPublished", "nothing is %s at %s; was it unmounted by hand? End its pod, so that it is published anew", what, e.target)
	case !ours:
		e.add(inaccessible, "OtherTarget", "what is %s at %s is not the volume; end its pod, so that it is published anew", what, e.target)
	}
}
