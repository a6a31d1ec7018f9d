package directory

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Delete renames the volume into trash/. An image that the kernel says is in use is fault.Precondition.
func (p *pool) Delete(ctx context.Context, v datastore.Volume, _ datastore.Disposal) error {
	return p.about(p.delete(ctx, v), "delete", v)
}

func (p *pool) delete(ctx context.Context, v datastore.Volume) error {
	if err := p.check(v); err != nil {
		return err
	}
	root, err := p.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = find(root, v)
	if fault.Is(err, fault.NotFound) {
		return syncVolumes(root) // a call that died behind its rename had not synced it
	}
	if err != nil {
		return err
	}
	name := v.BackendName()
	if err := p.release(ctx, root, volumesDir+"/"+name); err != nil {
		return err
	}
	if err := ensureDir(ctx, root, trashDir); err != nil {
		return err
	}
	return p.discard(ctx, root, volumesDir+"/"+name, trashDir+"/"+name)
}

// syncVolumes makes durable what is in volumes/, and what is not any more.
func syncVolumes(root *file.Root) error {
	err := root.Sync(volumesDir)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// release sees to it that nobody uses a volume's image: a device that only a crash left attached is
// detached.
func (p *pool) release(ctx context.Context, root *file.Root, dir string) error {
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
	if err := p.tools.Loop.Detach(ctx, image); err != nil {
		return err
	}
	if err := p.unattached(image); !fault.Is(err, fault.Precondition) {
		return err
	}
	// Somebody who only looks at the devices of the machine (blkid, losetup) keeps one for a moment.
	moment, cancel := context.WithTimeout(ctx, passing)
	defer cancel()
	if err := file.AwaitUnused(moment, image); err == nil {
		return nil
	}
	return p.unattached(image)
}

// passing is how long somebody who only looks at a device may take.
const passing = 2 * time.Second

// unattached is an error where a loop device backs the image.
func (p *pool) unattached(image *os.File) error {
	for _, readOnly := range []bool{false, true} {
		device, found, err := p.tools.Loop.Find(image, readOnly)
		if err != nil {
			return err
		}
		if found {
			return fault.New(fault.Precondition, "%s is in use through %s; unmount and detach it there first", image.Name(), device.Path)
		}
	}
	return nil
}

// discard renames something into trash/. What an earlier, broken removal left there under that name is
// removed first.
func (p *pool) discard(ctx context.Context, root *file.Root, from, to string) error {
	err := root.Rename(ctx, from, to)
	if !fault.Is(err, fault.Exists) {
		return err
	}
	if err := p.scrap(ctx, root, to); err != nil {
		return err
	}
	return root.Rename(ctx, from, to)
}

// Reclaim removes what lies in trash/, and in tmp/ unless it is being made. What can't be removed (a mount
// point in it, say) is in the error and keeps nothing else.
func (p *pool) Reclaim(ctx context.Context) error {
	return fault.Wrap(p.reclaim(ctx), "reclaim space of datastore", p.datastore)
}

func (p *pool) reclaim(ctx context.Context) error {
	root, err := p.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	errs := []error{p.sweepTmp(ctx, root)}
	names, err := list(root, trashDir)
	errs = append(errs, err)
	for _, name := range names {
		if err := file.CheckName(name); err != nil { // no name of ours
			errs = append(errs, err)
			continue
		}
		errs = append(errs, p.scrap(ctx, root, trashDir+"/"+name))
	}
	return errors.Join(errs...)
}

// unfinished is behind the names in trash/ of what came from tmp/.
const unfinished = ".unfinished"

// sweepTmp moves what broken calls left in tmp/ to trash/. It removes nothing in tmp/ itself: a rename
// happens before or after that of Create, but a removal that has begun would go on in the directory
// that Create has just put into its place.
func (p *pool) sweepTmp(ctx context.Context, root *file.Root) error {
	names, err := list(root, tmpDir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := ensureDir(ctx, root, trashDir); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range names {
		err := p.unlessMaking(name, func() error {
			return p.discard(ctx, root, tmpDir+"/"+name, trashDir+"/"+name+unfinished)
		})
		if !fault.Is(err, fault.NotFound) { // Create has made it, or removed it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unlessMaking does something to a name in tmp/ while no call of Create can take it up.
func (p *pool) unlessMaking(name string, do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.making[name] {
		return nil
	}
	return do()
}

// list returns the names in a folder; none where it is missing.
func list(root *file.Root, dir string) ([]string, error) {
	names, err := root.ReadDir(dir, 0)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return names, err
}

// freeAtOnce is how much of an image is freed at a time, so that a context can end a large removal.
const freeAtOnce = 16 << 30

// scrap removes a volume that is out of use. Its image is emptied first: xfs gives the space of a removed
// file back some time later, that of a file which is made shorter at once.
func (p *pool) scrap(ctx context.Context, root *file.Root, dir string) error {
	if err := p.empty(ctx, root, dir+"/"+imageName); err != nil {
		return err
	}
	return root.RemoveAll(ctx, dir)
}

// empty makes an image shorter by and by. One to which the administrator gave another name, or which somebody
// copies from, is left as it is; one that somebody has attached as a loop device is an error.
func (p *pool) empty(ctx context.Context, root *file.Root, name string) error {
	image, err := root.OpenWrite(name)
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
		return p.unattached(image)
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
