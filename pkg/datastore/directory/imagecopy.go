package directory

import (
	"context"
	"errors"
	"os"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// originName is, while a thick copy is made, a sparse one that shares the blocks of a source in use: what the
// source held at one instant.
const originName = "origin.img"

// copy shares the source's blocks where the file system can. What can't share them, and thick volumes, which must
// have space of their own, are copied byte by byte.
func (b *images) copy(ctx context.Context, root *file.Root, c duplicate, m *meta) error {
	source, err := openImage(root, c.from, c.source, false)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // it is only read
	info, err := file.StatFile(source)
	if err != nil {
		return err
	}
	// No less than there is: a volume may be larger than its mark says, where Expand died.
	m.SectorSize, m.Bytes = c.source.SectorSize, max(m.Bytes, info.Bytes)
	thick := m.thick()
	done, err := b.goOn(ctx, root, c, source, m, thick)
	if err != nil || done {
		return err
	}
	if err := errors.Join(b.mayWipe(root, b.pool.wipeOf(c.volume)), b.pool.fresh(ctx, root, c.dir)); err != nil {
		return err
	}
	name := imageName
	if thick {
		name = originName
	}
	// It holds the source's bytes, also where it is given up half way.
	if err := b.pool.demand(ctx, root, c.dir, c.wipe); err != nil {
		return err
	}
	if err := b.pool.inherit(ctx, root, c.from, c.dir); err != nil {
		return err
	}
	m.stamp(b.pool.tools.Now())
	shared, err := b.share(ctx, root, source, c.dir+"/"+name)
	switch {
	case err != nil:
		return err
	case !shared:
		return b.copyBytes(ctx, root, c, source, m, thick)
	case thick:
		return b.copyOrigin(ctx, root, c, m)
	}
	m.Family = c.source.family()
	return b.finish(ctx, root, c, m)
}

// share makes an image that shares all blocks of another, and tells whether the file system can.
func (b *images) share(ctx context.Context, root *file.Root, source *os.File, name string) (bool, error) {
	image, err := root.Create(ctx, name, fileMode)
	if err != nil {
		return false, err
	}
	defer image.Close() //nolint:errcheck // synced below
	inPlace, err := file.NoCow(source)
	if err != nil {
		return false, err
	}
	if inPlace {
		if err := file.SetNoCow(ctx, image); err != nil {
			return false, err
		}
	}
	can, err := file.Clone(ctx, image, source)
	if err != nil {
		return false, err
	}
	if !can {
		return false, root.Unlink(ctx, name)
	}
	return true, file.Sync(image)
}

// copyOrigin copies a thick volume from an image that shares its source's blocks, which then goes.
func (b *images) copyOrigin(ctx context.Context, root *file.Root, c duplicate, m *meta) error {
	origin, err := root.Open(c.dir + "/" + originName)
	if err != nil {
		return err
	}
	defer origin.Close() //nolint:errcheck // it is only read
	return b.copyBytes(ctx, root, c, origin, m, true)
}

// finish makes of a whole copy what it is to be: its length, its own UUID where the kernel needs one, and durable.
func (b *images) finish(ctx context.Context, root *file.Root, c duplicate, m *meta) error {
	name := c.dir + "/" + imageName
	image, err := root.OpenWrite(name)
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // synced below
	info, err := file.StatFile(image)
	if err != nil {
		return err
	}
	if info.Bytes < m.Bytes {
		if err := file.Truncate(ctx, image, m.Bytes); err != nil {
			return err
		}
	}
	if m.thick() {
		if err := file.Allocate(ctx, image, m.Bytes); err != nil {
			return err
		}
	}
	if m.Filesystem != nil && m.Filesystem.Type == string(filesystem.Btrfs) && !m.Snapshot {
		// A snapshot keeps its source's: it is never mounted.
		if err := filesystem.SetBtrfsUUID(ctx, b.pool.tools.Command, file.PathForTool(image), m.Filesystem.UUID); err != nil {
			return fault.Wrap(err, "prepare", path.Join(root.Path(), name))
		}
	}
	if err := file.Sync(image); err != nil {
		return err
	}
	if m.Snapshot {
		// It never changes, so what it takes now is what it can take at most.
		if info, err = file.StatFile(image); err != nil {
			return err
		}
		m.Promised = info.Allocated
	}
	return b.dropOrigin(ctx, root, c.dir)
}

// dropOrigin removes what a thick copy was made of. Where it must be wiped, it has blocks of its own if its source
// is gone by now.
func (b *images) dropOrigin(ctx context.Context, root *file.Root, dir string) error {
	o, err := readOrder(root, dir)
	if err != nil {
		return err
	}
	if strength(o.Wipe) > 0 {
		if err := b.wipeImage(ctx, root, dir, originName, o); err != nil {
			return err
		}
	}
	return root.Unlink(ctx, dir+"/"+originName)
}

// features finds out by trying: that the file system is an xfs says nothing of how it was made.
func (b *images) features(_ context.Context, root *file.Root) ([]v1alpha1.Feature, error) {
	fs, err := root.Filesystem()
	if err != nil {
		return nil, err
	}
	var features []v1alpha1.Feature
	if overwrites(fs) {
		features = append(features, v1alpha1.WipeByZeroes)
	}
	can, err := b.canShare(root)
	if can {
		features = append(features, v1alpha1.InstantCopies)
	}
	return features, err
}

func (b *images) canShare(root *file.Root) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked {
		return b.shares, nil
	}
	can, err := root.CanClone()
	if err != nil {
		return false, err
	}
	b.asked, b.shares = true, can
	return can, nil
}
