package directory

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// open attaches the image as a loop device. A thick image is made whole first: what a file system zeroed while
// the volume was in use, the loop driver may have punched out.
func (b *images) open(ctx context.Context, root *file.Root, dir string, m meta, readOnly bool) (datastore.Opened, error) {
	image, err := openImage(root, dir, m, !readOnly)
	if err != nil {
		return datastore.Opened{}, err
	}
	defer image.Close() //nolint:errcheck // nothing was written to it
	if m.Provisioning == v1alpha1.Thick && !readOnly {
		if err := makeWhole(ctx, image); err != nil {
			return datastore.Opened{}, err
		}
	}
	if !readOnly {
		if err := b.endCopies(ctx, root, m.UID); err != nil {
			return datastore.Opened{}, err
		}
	}
	discard := m.Provisioning == v1alpha1.Thin && !readOnly && !mustZero(root, dir, m)
	device, err := b.pool.tools.Loop.Attach(ctx, image, loop.Options{
		ReadOnly: readOnly, DirectIO: true, Discard: discard, SectorSize: m.SectorSize, Name: m.ID,
	})
	if err != nil {
		return datastore.Opened{}, err
	}
	return datastore.Opened{Device: device.Path, Bytes: device.Bytes, Identity: m.UID, Discard: discard}, nil
}

// mustZero tells whether a volume's blocks are to be overwritten at its end, as far as is known: those that are given back
// while it is in use would not be.
func mustZero(root *file.Root, dir string, m meta) bool {
	if m.Wipe == v1alpha1.WipeZero {
		return true
	}
	o, err := readOrder(root, dir)
	return err != nil || o.Wipe == v1alpha1.WipeZero // one that can't be read may be one
}

// endCopies makes copies of a volume that is about to be written to begin again. What they have of it is told by the
// image's times as well, but a power cut may take a new time back and leave what was written.
func (b *images) endCopies(ctx context.Context, root *file.Root, uid string) error {
	names, err := list(root, tmpDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		w, err := readWork(root, tmpDir+"/"+name)
		if foreign(err) || err == nil && (w.Origin || w.Source.UID != uid) {
			continue
		}
		if err == nil {
			err = root.Unlink(ctx, tmpDir+"/"+name+"/"+workName)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// close detaches the image from its loop devices.
func (b *images) close(ctx context.Context, root *file.Root, dir string) error {
	image, err := root.Open(dir + "/" + imageName)
	if notTheVolume(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // it is not even read
	return b.pool.tools.Loop.Detach(ctx, image)
}

// grow makes the image longer, durably. Where there is no space for it, it stays as it was.
func (b *images) grow(ctx context.Context, root *file.Root, dir string, m meta, bytes int64) (growth, error) {
	image, err := openImage(root, dir, m, true)
	if err != nil {
		return growth{}, err
	}
	info, err := file.StatFile(image)
	bytes = max(bytes, info.Bytes)
	undo := func(ctx context.Context) error { return file.Truncate(context.WithoutCancel(ctx), image, info.Bytes) }
	if err == nil {
		if err = lengthen(ctx, root, image, info, m.Provisioning, bytes); err != nil {
			err = errors.Join(err, undo(ctx))
		}
	}
	if err != nil {
		_ = image.Close() // it is as it was
		return growth{}, err
	}
	return growth{
		bytes: bytes, undo: undo,
		tell: func(ctx context.Context) error { return b.refresh(ctx, image) },
		end:  func() { _ = image.Close() }, // it is synced
	}, nil
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
func (b *images) refresh(ctx context.Context, image *os.File) error {
	used, err := file.InUse(image) // spares a look at each loop device of the machine
	if err != nil || !used {
		return err
	}
	for _, readOnly := range []bool{false, true} {
		device, found, err := b.pool.tools.Loop.Find(image, readOnly)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if _, err := b.pool.tools.Loop.Refresh(ctx, device); err != nil {
			return err
		}
	}
	return nil
}

// release detaches a device that only a crash left attached.
func (b *images) release(ctx context.Context, root *file.Root, dir string) error {
	image, err := root.Open(dir + "/" + imageName)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer image.Close()            //nolint:errcheck // it is not even read
	used, err := file.InUse(image) // spares a look at each loop device of the machine
	if err != nil || !used {
		return err
	}
	if err := b.pool.tools.Loop.Detach(ctx, image); err != nil {
		return err
	}
	if err := b.unattached(image); !fault.Is(err, fault.Precondition) {
		return err
	}
	// Somebody who only looks at the devices of the machine (blkid, losetup) keeps one for a moment.
	moment, cancel := context.WithTimeout(ctx, passing)
	defer cancel()
	if err := file.AwaitUnused(moment, image); err == nil {
		return nil
	}
	return b.unattached(image)
}

// passing is how long somebody who only looks at a device may take.
const passing = 2 * time.Second

// unattached is an error where a loop device backs the image.
func (b *images) unattached(image *os.File) error {
	for _, readOnly := range []bool{false, true} {
		device, found, err := b.pool.tools.Loop.Find(image, readOnly)
		if err != nil {
			return err
		}
		if found {
			return fault.New(fault.Precondition, "%s is in use through %s; unmount and detach it there first", image.Name(), device.Path)
		}
	}
	return nil
}

// freeAtOnce is how much of an image is freed at a time, so that a context can end a large removal.
const freeAtOnce = 16 << 30

// empty makes an image shorter by and by: xfs gives the space of a removed file back some time later, that of a
// file which is made shorter at once. One to which the administrator gave another name, or which somebody
// copies from, is left as it is; one that somebody has attached as a loop device is an error.
func (b *images) empty(ctx context.Context, root *file.Root, dir string) error {
	image, err := root.OpenWrite(dir + "/" + imageName)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) {
		return nil // no image of ours; RemoveAll says what it is
	}
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // it is removed next
	used, err := file.InUse(image)
	if err != nil {
		return err
	}
	if used {
		return b.unattached(image)
	}
	info, err := file.StatFile(image)
	if err != nil || info.Links != 1 {
		return err
	}
	for size := info.Bytes; size > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		size = max(0, size-freeAtOnce)
		if err := file.Truncate(ctx, image, size); err != nil {
			return err
		}
	}
	return nil
}
