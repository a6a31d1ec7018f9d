package directory

import (
	"context"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// InUse is what datastore.InUse asks.
func (p *pool) InUse(ctx context.Context, v datastore.Volume) (bool, error) {
	used, err := p.inUse(ctx, v)
	return used, p.about(err, "look who uses", v)
}

func (p *pool) inUse(ctx context.Context, v datastore.Volume) (bool, error) {
	if err := p.check(v); err != nil {
		return false, err
	}
	root, err := p.enter()
	if err != nil {
		return false, err
	}
	defer root.Close()
	b, dir, _, err := p.marked(root, v)
	if err != nil {
		return false, err
	}
	return b.inUse(ctx, root, dir)
}

// inUse tells whether the image is open anywhere: a loop device holds it so.
func (b *images) inUse(_ context.Context, root *file.Root, dir string) (bool, error) {
	image, err := root.Open(dir + "/" + imageName)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer image.Close() //nolint:errcheck // it is not even read
	return file.InUse(image)
}

// inUse tells whether the directory is mounted anywhere.
func (b *trees) inUse(ctx context.Context, root *file.Root, dir string) (bool, error) {
	data, err := root.OpenDir(dir + "/" + dataName)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer data.Close() //nolint:errcheck // it is only read
	mounts, err := b.mounts.OfDirectory(ctx, data, path.Base(dir))
	return len(mounts) > 0, err
}
