package directory

import (
	"context"
	"os"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

const (
	// dataName is the directory's in its volume's folder.
	dataName = "data"
	// dataMode is what the root of a new file system has.
	dataMode = 0o755
)

// trees are volumes that are directories, used by bind mounts: a subvolume each on btrfs. Their size is enforced by
// the file system (limits), unless the volume says that nobody needs to.
type trees struct {
	pool   *pool
	mounts *mount.Mounter
}

var _ body = (*trees)(nil)

func (b *trees) fits(root *file.Root, v datastore.Volume) error {
	switch {
	case v.Access != v1alpha1.Filesystem:
		return fault.New(fault.Invalid, "a sub-directory has access %s only, not %q; use format image", v1alpha1.Filesystem, v.Access)
	case v.Filesystem != nil:
		return fault.New(fault.Invalid, "a sub-directory has no file system of its own, %q can't be made; use format image", v.Filesystem.Type)
	case v.Provisioning != v1alpha1.Thin:
		return fault.New(fault.Invalid, "a sub-directory takes its space when it is written, not in advance; use format image for provisioning %q", v.Provisioning)
	}
	if err := b.mayWipe(root, b.pool.wipeOf(v)); err != nil || !limited(v.Quota) {
		return err
	}
	dir, err := root.OpenDir(".")
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	return enforced(root, dir, fault.Invalid)
}

// limited tells whether a size must be enforced.
func limited(q v1alpha1.QuotaPolicy) bool { return q != v1alpha1.QuotaNone }

func (b *trees) make(ctx context.Context, root *file.Root, dir string, _ datastore.Volume, m *meta) (func() error, error) {
	data, err := b.makeData(ctx, root, dir)
	if err != nil {
		return nil, err
	}
	if err := b.limit(ctx, root, data, m); err != nil {
		_ = data.Close() // it is removed
		return nil, err
	}
	return func() error {
		defer data.Close() //nolint:errcheck // synced
		return file.Sync(data)
	}, nil
}

// makeData makes the empty directory.
func (b *trees) makeData(ctx context.Context, root *file.Root, dir string) (*os.File, error) {
	fs, err := root.Filesystem()
	if err != nil {
		return nil, err
	}
	if fs.Type != "btrfs" {
		err = root.Mkdir(ctx, dir+"/"+dataName, dataMode)
	} else {
		err = in(root, dir, func(parent *os.File) error { return btrfs.Create(ctx, parent, dataName) })
	}
	if err != nil {
		return nil, err
	}
	data, err := root.OpenDir(dir + "/" + dataName)
	if err != nil {
		return nil, err
	}
	if err := file.SetMode(ctx, data, dataMode); err != nil { // whatever the umask is
		_ = data.Close() // it is removed
		return nil, err
	}
	return data, nil
}

// in does something in an open directory.
func in(root *file.Root, dir string, do func(*os.File) error) error {
	f, err := root.OpenDir(dir)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what was made in it is synced by its own
	return do(f)
}

// openData opens a volume's directory. One that is gone is fault.DataLoss.
func openData(root *file.Root, dir string) (*os.File, error) {
	f, err := root.OpenDir(dir + "/" + dataName)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.DataLoss, "the directory %s is gone, only its mark is there; restore it from a backup", path.Join(root.Path(), dir, dataName))
	}
	return f, err
}

// copy makes a snapshot of a subvolume, which is whole at once: read-only for a snapshot, writable for a volume.
func (b *trees) copy(ctx context.Context, root *file.Root, c duplicate, m *meta) error {
	if err := b.fits(root, c.volume); err != nil {
		return err
	}
	data, err := openData(root, c.from)
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // it is only read
	is, err := btrfs.IsSubvolume(data)
	if err != nil {
		return err
	}
	if !is {
		return fault.New(fault.Precondition, "sub-directories are copied on btrfs only, and %s is no subvolume of one; "+
			"use a datastore on btrfs, or format image", data.Name())
	}
	if err := copiesWhole(data); err != nil {
		return err
	}
	used, err := btrfs.UsageOf(data)
	if err != nil {
		return err
	}
	if !c.volume.Snapshot && limited(m.Quota) && used.UsedBytes > m.Bytes {
		return fault.New(fault.OutOfRange, "its source %s holds %s, more than the limit of %s would allow", c.source.ID, humanBytes(used.UsedBytes), humanBytes(m.Bytes))
	}
	if err := b.pool.fresh(ctx, root, c.dir); err != nil {
		return err
	}
	err = in(root, c.dir, func(parent *os.File) error { return btrfs.Snapshot(ctx, data, parent, dataName, c.volume.Snapshot) })
	if err != nil {
		return err
	}
	m.stamp(b.pool.tools.Now())
	// One may have been made since.
	if err := copiesWhole(data); err != nil {
		return err
	}
	copied, err := openData(root, c.dir)
	if err != nil {
		return err
	}
	defer copied.Close() //nolint:errcheck // synced, or only read
	if c.volume.Snapshot {
		m.Promised, err = held(copied, c.source.Bytes)
		return err
	}
	if err := b.limit(ctx, root, copied, m); err != nil {
		return err
	}
	return file.Sync(copied)
}

// copiesWhole refuses a subvolume that has others in it: they would be empty directories in its copy.
func copiesWhole(data *os.File) error {
	nested, err := btrfs.Nested(data)
	if err != nil || len(nested) == 0 {
		return err
	}
	return fault.New(fault.Precondition, "it holds %d subvolumes of its own (%s), which a copy would not have; remove them, or move what they hold to directories",
		len(nested), shorten(nested[0]))
}

// grow raises the limit. A crash before the mark says so leaves the larger one, which Open takes back.
func (b *trees) grow(ctx context.Context, root *file.Root, dir string, m meta, bytes int64) (growth, error) {
	data, err := openData(root, dir)
	if err != nil {
		return growth{}, err
	}
	bytes = max(bytes, m.Bytes)
	set := func(ctx context.Context, bytes int64) error {
		if !limited(m.Quota) {
			return nil
		}
		return setLimit(ctx, root, data, m, bytes)
	}
	if err := set(ctx, bytes); err != nil {
		_ = data.Close() // it is only read
		return growth{}, err
	}
	return growth{
		bytes: bytes,
		undo:  func(ctx context.Context) error { return set(context.WithoutCancel(ctx), m.Bytes) },
		tell:  func(context.Context) error { return nil },
		end:   func() { _ = data.Close() }, // it is only read
	}, nil
}

// open verifies the directory, and that its size is enforced.
func (b *trees) open(ctx context.Context, root *file.Root, dir string, m meta, _ bool) (datastore.Opened, error) {
	data, err := openData(root, dir)
	if err != nil {
		return datastore.Opened{}, err
	}
	defer data.Close() //nolint:errcheck // it is only read
	if limited(m.Quota) {
		if err := uphold(ctx, root, data, m); err != nil {
			return datastore.Opened{}, err
		}
	}
	info, err := file.StatFile(data)
	if err != nil {
		return datastore.Opened{}, err
	}
	return datastore.Opened{Dir: path.Join(root.Path(), dir, dataName), Tree: info.ID(), Bytes: m.Bytes, Identity: m.UID}, nil
}

// close has nothing to do: a directory is there for as long as its pool's file system is mounted.
func (b *trees) close(context.Context, *file.Root, string) error { return nil }

// release refuses a directory that is mounted somewhere: whoever is there would lose what he works with.
func (b *trees) release(ctx context.Context, root *file.Root, dir string) error {
	data, err := root.OpenDir(dir + "/" + dataName)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // it is only read
	mounts, err := b.mounts.OfDirectory(ctx, data, path.Base(dir))
	if err != nil {
		return err
	}
	for _, m := range mounts {
		return fault.New(fault.Precondition, "%s is in use, mounted at %s; unmount it there first", data.Name(), m.MountPoint)
	}
	return nil
}

// empty lifts the limit, and removes a subvolume. What else is in the folder is removed with it.
func (b *trees) empty(ctx context.Context, root *file.Root, dir string) error {
	data, err := root.OpenDir(dir + "/" + dataName)
	if fault.Is(err, fault.NotFound) {
		return commitRemoval(root, dir)
	}
	if foreign(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // it is removed
	is, err := btrfs.IsSubvolume(data)
	if err != nil {
		return err
	}
	if is {
		return in(root, dir, func(parent *os.File) error { return btrfs.Delete(ctx, parent, dataName) })
	}
	return forsake(ctx, root, dir, data)
}

// commitRemoval commits, on btrfs, the removal of a subvolume by a call that died before it could.
func commitRemoval(root *file.Root, dir string) error {
	fs, err := root.Filesystem()
	if err != nil || fs.Type != "btrfs" {
		return err
	}
	err = in(root, dir, btrfs.Commit)
	if foreign(err) { // no folder
		return nil
	}
	return err
}

func (b *trees) features(_ context.Context, root *file.Root) ([]v1alpha1.Feature, error) {
	fs, err := root.Filesystem()
	if err != nil {
		return nil, err
	}
	var out []v1alpha1.Feature
	if fs.Type == "btrfs" {
		out = append(out, v1alpha1.SubdirectorySnapshots)
	}
	dir, err := root.OpenDir(".")
	if err != nil {
		return out, err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	err = enforced(root, dir, fault.Precondition)
	if err == nil {
		return append(out, v1alpha1.SubdirectoryQuota), nil
	}
	if fault.Is(err, fault.Precondition) {
		return out, nil
	}
	return out, err
}
