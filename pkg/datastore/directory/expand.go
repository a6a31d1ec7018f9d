package directory

import (
	"context"
	"errors"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Expand grows the image, then the size in the mark, then the loop devices that back the image. The mark
// follows: it promises what is there. A crash in between leaves an image that is larger than its mark
// says, which the next call brings to an end and Open takes as it is.
func (p *pool) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	made, err := p.expand(ctx, v)
	return made, p.about(err, "expand", v)
}

func (p *pool) expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	if err := p.check(v); err != nil {
		return datastore.Made{}, err
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Made{}, err
	}
	defer root.Close()
	m, err := find(root, v)
	if err != nil {
		return datastore.Made{}, err
	}
	dir := volumesDir + "/" + v.BackendName()
	image, err := openImage(root, dir, m, true)
	if err != nil {
		return datastore.Made{}, err
	}
	defer image.Close() //nolint:errcheck // synced below
	if err := grow(ctx, root, image, dir, &m, roundUp(v.Bytes)); err != nil {
		return datastore.Made{}, err
	}
	return m.made(v.BackendName()), p.refresh(ctx, image)
}

// grow makes an image and its mark say at least that many bytes. Where one of them has no space, both stay as they
// were: nobody was told yet.
func grow(ctx context.Context, root *file.Root, image *os.File, dir string, m *meta, bytes int64) error {
	info, err := file.StatFile(image)
	if err != nil {
		return err
	}
	bytes = max(bytes, info.Bytes)
	if err := lengthen(ctx, root, image, info, m.Provisioning, bytes); err != nil {
		return errors.Join(err, file.Truncate(context.WithoutCancel(ctx), image, info.Bytes))
	}
	if bytes == m.Bytes {
		return root.Sync(dir) // a call that died behind its rename had not synced it
	}
	m.Bytes = bytes
	data, err := encode(m)
	if err != nil {
		return err
	}
	if err := root.WriteFile(ctx, dir+"/"+metaName, data, fileMode); err != nil {
		return errors.Join(err, file.Truncate(context.WithoutCancel(ctx), image, info.Bytes))
	}
	return nil
}

// lengthen gives the image its space and its length, durably.
func lengthen(ctx context.Context, root *file.Root, image *os.File, info file.Info, p v1alpha1.Provisioning, bytes int64) error {
	if p == v1alpha1.Thick {
		if err := room(root, bytes-info.Allocated); err != nil {
			return err
		}
		if err := file.Allocate(ctx, image, bytes); err != nil {
			return fault.Wrap(err, "take", humanBytes(bytes-info.Bytes)+" more")
		}
	}
	if bytes > info.Bytes {
		if err := file.Truncate(ctx, image, bytes); err != nil {
			return err
		}
	}
	return file.Sync(image)
}

// refresh tells the kernel the image's size where it is attached.
func (p *pool) refresh(ctx context.Context, image *os.File) error {
	for _, readOnly := range []bool{false, true} {
		device, found, err := p.tools.Loop.Find(image, readOnly)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if _, err := p.tools.Loop.Refresh(ctx, device); err != nil {
			return err
		}
	}
	return nil
}
