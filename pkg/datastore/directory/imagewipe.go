package directory

import (
	"context"
	"errors"
	"math"
	"os"
	"path"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// wipedAtOnce is how much of an image is wiped between two notes of how far it is, in bytes.
const wipedAtOnce = 64 << 20

// overwrites tells whether a file system writes to the very blocks that a file has. btrfs writes elsewhere, and
// keeps, for as long as any part of it is in use, all of an extent; where it overwrites (chattr +C) it does
// not once blocks were shared.
func overwrites(fs file.Filesystem) bool { return fs.Type == "ext4" || fs.Type == "xfs" }

func (b *images) mayWipe(root *file.Root, w v1alpha1.WipePolicy) error {
	if w != v1alpha1.WipeZero {
		return nil
	}
	fs, err := root.Filesystem()
	if err != nil || overwrites(fs) {
		return err
	}
	return fault.New(fault.Invalid, "wipe %q can't be held on %s: %s writes elsewhere than where the old bytes are; "+
		"set wipe to none or discard, or use a directory on ext4 or xfs", w, root.Path(), fs.Type)
}

// wipe does to the images in a folder what was ordered.
func (b *images) wipe(ctx context.Context, root *file.Root, dir string, o order) error {
	for _, name := range []string{originName, imageName} {
		if err := b.wipeImage(ctx, root, dir, name, o); err != nil {
			return err
		}
	}
	return nil
}

func (b *images) wipeImage(ctx context.Context, root *file.Root, dir, name string, o order) error {
	image, err := root.OpenWrite(dir + "/" + name)
	if foreign(err) {
		return nil // no image of ours
	}
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // synced as it is wiped
	// Status looks at images for a moment.
	moment, cancel := context.WithTimeout(ctx, passing)
	defer cancel()
	if err := file.AwaitUnused(moment, image); ctx.Err() == nil && moment.Err() != nil {
		return errors.Join(b.unattached(image), fault.New(fault.Precondition, "somebody has %s open; it is wiped when they close it", image.Name()))
	} else if err != nil {
		return err
	}
	info, err := file.StatFile(image)
	if err != nil || info.Links != 1 {
		return err // the administrator gave it another name, and keeps it
	}
	if name == originName {
		o.Offset = 0 // it is about the other one
	}
	if o.Wipe == v1alpha1.WipeDiscard {
		return punch(ctx, image, info.Bytes)
	}
	return b.zero(ctx, root, dir, image, o)
}

// punch gives all blocks of an image back, and so to the disk below where the file system passes that on.
func punch(ctx context.Context, image *os.File, bytes int64) error {
	for at := int64(0); at < bytes; at += freeAtOnce {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := file.PunchHole(ctx, image, at, min(bytes, at+freeAtOnce)); err != nil {
			return err
		}
	}
	return file.Sync(image)
}

// zero overwrites the blocks of an image that no other file has, and leaves those that another one has to that one.
func (b *images) zero(ctx context.Context, root *file.Root, dir string, image *os.File, o order) error {
	// Blocks that xfs holds ready for writes to shared ones would take the zeroes in place of the old.
	if err := file.FreeReserved(image); err != nil {
		return err
	}
	if o.Passed {
		o.Offset, o.Passed = 0, false
	}
	for {
		before, end, passed, err := window(ctx, image, o.Offset)
		if err != nil {
			return err
		}
		o.Passed = o.Passed || passed
		if len(before) == 0 {
			return b.leave(ctx, root, dir, o)
		}
		for _, e := range before {
			if err := file.ZeroRange(ctx, image, e.Start, e.Start+e.Bytes); err != nil {
				return err
			}
		}
		if err := file.Sync(image); err != nil {
			return err
		}
		if err := b.prove(ctx, image, before, end); err != nil {
			return err
		}
		file.Forget(image, o.Offset, end)
		o.Offset = end
		if path.Base(image.Name()) == imageName {
			if err := writeOrder(ctx, root, dir, o); err != nil {
				return err
			}
		}
	}
}

// leave orders those that have the blocks which were passed over to wipe them, before these are let go of.
func (b *images) leave(ctx context.Context, root *file.Root, dir string, o order) error {
	if !o.Passed {
		return nil
	}
	m, err := readMark(root, dir)
	if foreign(err) {
		return nil // half a copy: its source is there
	}
	if err != nil {
		return err
	}
	return b.pool.handOver(ctx, root, m, o.Wipe)
}

// window returns the next extents that are to be overwritten, from an offset on, where they end, and whether shared
// ones were passed over. They may lie behind the end of the file.
func window(ctx context.Context, image *os.File, from int64) (extents []file.Extent, end int64, passed bool, err error) {
	var bytes int64
	err = file.Extents(ctx, image, from, math.MaxInt64, func(e file.Extent) bool {
		if skip := from - e.Start; skip > 0 {
			e.Start, e.Physical, e.Bytes = from, e.Physical+skip, e.Bytes-skip
		}
		if e.Shared || e.Bytes <= 0 {
			passed = passed || e.Shared
			return true
		}
		e.Bytes = min(e.Bytes, wipedAtOnce-bytes)
		bytes += e.Bytes
		extents, end = append(extents, e), e.Start+e.Bytes
		return bytes < wipedAtOnce
	})
	return extents, end, passed, err
}

// prove compares where a file's bytes lie with where they lay before they were overwritten. Where the file system
// has put them elsewhere, the old ones can't be reached any more: that is told, not hidden.
func (b *images) prove(ctx context.Context, image *os.File, before []file.Extent, end int64) error {
	var after []file.Extent
	err := file.Extents(ctx, image, before[0].Start, end, func(e file.Extent) bool {
		after = append(after, e)
		return true
	})
	if err != nil {
		return err
	}
	var missed int64
	for _, e := range before {
		if !e.Unplaced && !covered(after, e) {
			missed += e.Bytes
		}
	}
	if missed > 0 {
		b.pool.noteUnwiped(path.Base(path.Dir(image.Name())), missed)
	}
	return nil
}

// covered tells whether a range still lies where it lay, in one piece or in several.
func covered(after []file.Extent, e file.Extent) bool {
	at := e.Start
	i, _ := slices.BinarySearchFunc(after, at, func(a file.Extent, at int64) int {
		if a.Start+a.Bytes <= at {
			return -1
		}
		return 1
	})
	for ; i < len(after) && at < e.Start+e.Bytes; i++ {
		a := after[i]
		if a.Start > at || a.Physical-a.Start != e.Physical-e.Start {
			return false
		}
		at = a.Start + a.Bytes
	}
	return at >= e.Start+e.Bytes
}
