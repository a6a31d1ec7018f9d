package stage

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// find verifies a volume that is a directory, and puts into the stage record what it is.
func (s *Stager) find(ctx context.Context, v *v1alpha1.DatastoreVolume, r *record) error {
	opened, err := s.open(ctx, v, r.ReadOnly)
	if err != nil {
		return err
	}
	if opened.Dir == "" {
		return fault.New(fault.Internal, "its record says format %s, its datastore opened device %s", v.Spec.Format, opened.Device)
	}
	r.Dir, r.Tree = opened.Dir, opened.Tree
	return nil
}

// isTree tells whether something is the root of a mount of the volume's very directory.
func (r *record) isTree(p mount.Point) bool {
	return p.IsDir && file.ID{Dev: p.Dev, Inode: p.Ino} == r.Tree
}

// bindTree mounts the volume's directory at the staging path, unless it is there.
func (s *Stager) bindTree(ctx context.Context, r *record) error {
	there, err := s.vacant(ctx, r)
	if there || err != nil {
		return err
	}
	return s.config.Mounter.Bind(ctx, r.Dir, r.Path, mount.BindOptions{
		ReadOnly: r.ReadOnly, Attributes: restrictions(r.Options), Private: true,
		Verify: func(p mount.Point) error {
			if r.isTree(p) {
				return nil
			}
			return fault.New(fault.Unavailable, "%s is another directory (%s) than the one that was verified (%s); try again",
				r.Dir, file.ID{Dev: p.Dev, Inode: p.Ino}, r.Tree)
		},
	})
}

// restrictions are the options that a mount has beyond those of the mount that it is made from. The others mean that
// something is not to be restricted, which is for whoever mounted the datastore's file system to decide.
func restrictions(options []string) []string {
	known := []string{"nosuid", "nodev", "noexec", "nosymfollow", "noatime", "nodiratime", "relatime", "strictatime"}
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return !slices.Contains(known, o) })
}

// vacant tells whether the volume is mounted at its staging path already. Where it is not, the path is made ready for it:
// while nothing is mounted here, nobody shall write into the directory below.
func (s *Stager) vacant(ctx context.Context, r *record) (there bool, err error) {
	p, err := s.config.Mounter.Inspect(ctx, r.Path)
	switch {
	case err != nil:
		return false, err
	case p.IsMount:
		if ours, err := s.owns(ctx, r, r.Path, p); ours || err != nil {
			return ours, err
		}
		return false, fault.New(fault.Precondition, "something else is mounted at the staging path %s; unmount it", r.Path)
	case !p.IsDir:
		return false, fault.New(fault.Precondition, "the staging path %s is no directory", r.Path)
	}
	return false, s.config.Mounter.SetMode(ctx, r.Path, 0)
}

// usage is what a mounted volume uses. statfs(2) says it of a file system, and of a directory with a project quota, or
// without any, whose size is the datastore's. A subvolume's quota is asked for itself. Nobody can have more than there is
// in the datastore, whatever the quota says.
func usage(r *record, path string) (filesystem.Usage, error) {
	u, err := filesystem.Stat(path)
	if err != nil || r.Dir == "" {
		return u, err
	}
	if pool, err := filesystem.Stat(filepath.Dir(r.Dir)); err == nil {
		u.AvailableBytes = min(u.AvailableBytes, pool.AvailableBytes)
	}
	root, err := file.OpenRoot(path)
	if err != nil {
		return u, err
	}
	defer root.Close()
	dir, err := root.OpenDir(".")
	if err != nil {
		return u, err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	is, err := btrfs.IsSubvolume(dir)
	if err != nil || !is {
		return u, err
	}
	q, err := btrfs.UsageOf(dir)
	if err == nil && q.LimitBytes > 0 {
		u.TotalBytes, u.UsedBytes = q.LimitBytes, q.UsedBytes
		u.AvailableBytes = min(u.AvailableBytes, max(0, q.LimitBytes-q.UsedBytes))
	}
	return u, err
}
