package directory

import (
	"context"
	"fmt"
	"os"
	"path"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// imageName is the image's in its volume's folder.
const imageName = "disk.img"

// images are volumes that are raw image files, used through loop devices.
type images struct {
	pool *pool

	mu sync.Mutex
	// asked tells that the pool's file system said whether files can share blocks: shares.
	asked, shares bool

	measured families
}

var _ body = (*images)(nil)

func (b *images) fits(root *file.Root, v datastore.Volume) error {
	return b.mayWipe(root, b.pool.wipeOf(v))
}

func (b *images) make(ctx context.Context, root *file.Root, dir string, v datastore.Volume, m *meta) (func() error, error) {
	image, err := root.Create(ctx, dir+"/"+imageName, fileMode)
	if err != nil {
		return nil, err
	}
	if m.SectorSize, err = b.carve(ctx, root, v, m.Bytes, image); err != nil {
		_ = image.Close() // it is removed
		return nil, err
	}
	return func() error {
		defer image.Close() //nolint:errcheck // synced
		return file.Sync(image)
	}, nil
}

// carve gives the image its size, its space and its file system, and returns the sector size that it is for.
func (b *images) carve(ctx context.Context, root *file.Root, v datastore.Volume, bytes int64, image *os.File) (int, error) {
	if v.Provisioning == v1alpha1.Thick {
		if err := takeSpace(ctx, root, image, bytes); err != nil {
			return 0, err
		}
	}
	if err := file.Truncate(ctx, image, bytes); err != nil {
		return 0, err
	}
	sector, err := sectorSize(image)
	if err != nil || v.Filesystem == nil {
		return sector, err
	}
	return sector, b.format(ctx, image, v, sector)
}

// takeSpace allocates a new thick image as a whole. On btrfs it is overwritten in place as well: copying on
// write, each write would need new space before the old is given back, whatever is allocated.
func takeSpace(ctx context.Context, root *file.Root, image *os.File, bytes int64) error {
	fs, err := root.Filesystem()
	if err != nil {
		return err
	}
	if err := room(root, bytes); err != nil {
		return err
	}
	if fs.Type == "btrfs" {
		if err := file.SetNoCow(ctx, image); err != nil {
			return err
		}
	}
	return fault.Wrap(file.Allocate(ctx, image, bytes), "take", humanBytes(bytes))
}

const (
	sector512  = 512
	sector4096 = 4096
)

// sectorSize is that of the volume's device: 512 bytes, which all software knows, unless the storage below
// can't do direct I/O in units as small.
func sectorSize(image *os.File) (int, error) {
	align, err := file.DirectIOAlignment(image)
	if err != nil {
		return 0, err
	}
	if align > sector512 {
		return sector4096, nil
	}
	return sector512, nil
}

// format makes the file system with the UUID that the record names. A sparse and an allocated image both
// read as zeroes. Nothing is discarded: it would punch holes into what was allocated.
func (b *images) format(ctx context.Context, image *os.File, v datastore.Volume, sector int) error {
	fsType, err := filesystem.ParseType(v.Filesystem.Type)
	if err != nil {
		return err
	}
	err = filesystem.Make(ctx, b.pool.tools.Command, file.PathForTool(image), filesystem.Format{
		Type: fsType, UUID: v.Filesystem.UUID, SectorSize: sector, Zeroed: true, Options: v.Filesystem.MkfsOptions,
	})
	if err != nil {
		return fault.Wrap(err, "format", image.Name())
	}
	if v.Provisioning != v1alpha1.Thick {
		return nil
	}
	// A tool may write zeroes by punching holes.
	return file.Allocate(ctx, image, roundUp(v.Bytes))
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

func (b *images) allocated(root *file.Root, dir string, _ meta) (int64, error) {
	info, err := root.Stat(dir + "/" + imageName)
	return info.Allocated, err
}

// problems looks at the image from outside: what is in it is the file system's matter.
func (b *images) problems(root *file.Root, dir string, m meta) ([]v1alpha1.Problem, error) {
	full := path.Join(root.Path(), dir, imageName)
	problem := func(status v1alpha1.VolumeHealth, reason, message string) ([]v1alpha1.Problem, error) {
		return []v1alpha1.Problem{{Status: status, Reason: reason, Message: message}}, nil
	}
	info, err := root.Stat(dir + "/" + imageName)
	switch {
	case fault.Is(err, fault.NotFound):
		return problem(dataLoss, "ImageMissing", "the image "+full+" is gone, only its mark is there; restore it from a backup, or delete the volume")
	case err != nil:
		return nil, err
	case !info.Mode.IsRegular():
		return problem(inaccessible, "ImageReplaced", full+" is no regular file ("+info.Mode.Type().String()+
			"), so it is not the volume's image; put the image back")
	case info.Bytes < m.Bytes:
		return problem(dataLoss, "ImageTruncated", fmt.Sprintf("the image %s has %d bytes, its mark says %d: the end of it is gone; restore it from a backup",
			full, info.Bytes, m.Bytes))
	}
	return nil, nil
}

// foreign tells whether an error is of something that is gone meanwhile or isn't ours: no directory, a link, a
// mount point, a strange name.
func foreign(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) || fault.Is(err, fault.Invalid)
}
