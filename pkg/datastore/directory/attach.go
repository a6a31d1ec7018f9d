package directory

import (
	"context"
	"os"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// Open attaches the image as a loop device. A thick image is made whole first: what a file system zeroed
// while the volume was in use, the loop driver may have punched out.
func (p *pool) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	opened, err := p.attach(ctx, v, readOnly)
	return opened, p.about(err, "open", v)
}

func (p *pool) attach(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	if err := p.check(v); err != nil {
		return datastore.Opened{}, err
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Opened{}, err
	}
	defer root.Close()
	m, err := find(root, v)
	if err != nil {
		return datastore.Opened{}, err
	}
	image, err := openImage(root, volumesDir+"/"+v.BackendName(), m, !readOnly)
	if err != nil {
		return datastore.Opened{}, err
	}
	defer image.Close() //nolint:errcheck // nothing was written to it
	if m.Provisioning == v1alpha1.Thick && !readOnly {
		if err := makeWhole(ctx, image); err != nil {
			return datastore.Opened{}, err
		}
	}
	discard := m.Provisioning == v1alpha1.Thin && !readOnly
	device, err := p.tools.Loop.Attach(ctx, image, loop.Options{
		ReadOnly: readOnly, DirectIO: true, Discard: discard, SectorSize: m.SectorSize, Name: m.ID,
	})
	if err != nil {
		return datastore.Opened{}, err
	}
	return datastore.Opened{Device: device.Path, Bytes: device.Bytes, Identity: m.UID, Discard: discard}, nil
}

// openImage opens a volume's image. One that is gone, or shorter than the mark says, is fault.DataLoss.
func openImage(root *file.Root, dir string, m meta, write bool) (*os.File, error) {
	full := path.Join(root.Path(), dir, imageName)
	open := root.Open
	if write {
		open = root.OpenWrite
	}
	image, err := open(dir + "/" + imageName)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.DataLoss, "the image %s is gone, only its mark is there; restore it from a backup", full)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.StatFile(image)
	if err == nil && info.Bytes < m.Bytes {
		err = fault.New(fault.DataLoss, "the image %s has %d bytes, its mark says %d: the end of it is gone; restore it from a backup",
			full, info.Bytes, m.Bytes)
	}
	if err != nil {
		_ = image.Close() // nothing was written to it
		return nil, err
	}
	return image, nil
}

// makeWhole allocates what an image has lost of its space.
func makeWhole(ctx context.Context, image *os.File) error {
	info, err := file.StatFile(image)
	if err != nil {
		return err
	}
	err = file.Allocate(ctx, image, info.Bytes)
	if fault.Is(err, fault.Exhausted) {
		return fault.New(fault.Exhausted, "thick image %s lacks %s of its space, and the file system is full; free some and try again: %w",
			image.Name(), humanBytes(info.Bytes-info.Allocated), err)
	}
	return err
}

// Close detaches the image from its loop devices.
func (p *pool) Close(ctx context.Context, v datastore.Volume) error {
	return p.about(p.detach(ctx, v), "close", v)
}

func (p *pool) detach(ctx context.Context, v datastore.Volume) error {
	if err := p.check(v); err != nil {
		return err
	}
	root, err := p.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = find(root, v)
	if notTheVolume(err) {
		return nil
	}
	if err != nil {
		return err
	}
	image, err := root.Open(volumesDir + "/" + v.BackendName() + "/" + imageName)
	if notTheVolume(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // it is not even read
	return p.tools.Loop.Detach(ctx, image)
}

// notTheVolume tells whether an error says that there is no volume, or something else in its place: what
// isn't the volume isn't attached as one, and a consumer must be able to let go all the same.
func notTheVolume(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition)
}
