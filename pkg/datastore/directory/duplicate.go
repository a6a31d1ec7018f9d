package directory

import (
	"context"
	"errors"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Snapshot copies the volume into snapshots/. A volume that is in use can be copied where the file system shares
// blocks between files.
func (p *pool) Snapshot(ctx context.Context, of, snap datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if !snap.Snapshot || of.Snapshot {
		return datastore.Made{}, p.about(fault.New(fault.Invalid, "a snapshot is made of a volume"), "snapshot", snap)
	}
	made, err := p.duplicate(ctx, snap, of, progress)
	return made, p.about(err, "make", snap)
}

// duplicate makes a copy in tmp/ and renames it into its place when it is whole and durable. One that ends with its
// context goes on where it was with the next call; after any other error nothing is left.
func (p *pool) duplicate(ctx context.Context, v, from datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if err := errors.Join(p.check(v), p.check(from)); err != nil {
		return datastore.Made{}, err
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Made{}, err
	}
	defer root.Close()
	made, err := remembered(root, v)
	if !fault.Is(err, fault.NotFound) {
		return made, err
	}
	b, source, sourceMark, err := p.marked(root, from)
	if err != nil {
		return datastore.Made{}, fault.Wrap(err, "find the source", kindOf(from)+" "+from.ID)
	}
	if err := p.checkCopy(v, sourceMark); err != nil {
		return datastore.Made{}, err
	}
	if err := ensureLayout(ctx, root); err != nil {
		return datastore.Made{}, err
	}
	name := passingName(v)
	defer p.begin(name)()
	c := duplicate{from: source, source: sourceMark, dir: tmpDir + "/" + name, volume: v, progress: progress}
	c.wipe = strongest(p.wipeOf(v), from.Wipe, sourceMark.Wipe)
	if c.progress == nil {
		c.progress = func(_, _ int64) {}
	}
	m, err := p.copy(ctx, root, b, c)
	if err == nil {
		err = root.Rename(ctx, c.dir, folder(v))
	}
	if err == nil {
		// Once more: the source may have been told in between.
		return m.made(folder(v)), p.inherit(ctx, root, c.from, folder(v))
	}
	if ctx.Err() != nil && p.resumable(root, c.dir) {
		return datastore.Made{}, err
	}
	return datastore.Made{}, errors.Join(disturbed(err), p.drop(context.WithoutCancel(ctx), root, c.dir))
}

// checkCopy refuses copies that could never be used.
func (p *pool) checkCopy(v datastore.Volume, source meta) error {
	for _, lack := range p.capabilities.Missing(v) {
		return fault.New(fault.Invalid, "%s", lack)
	}
	fsType, sourceType := "", ""
	if v.Filesystem != nil {
		fsType = v.Filesystem.Type
	}
	if source.Filesystem != nil {
		sourceType = source.Filesystem.Type
	}
	switch {
	case v.Format != source.Format:
		return fault.New(fault.Invalid, "format %q is asked for, its source %s is of format %q", v.Format, source.ID, source.Format)
	case v.Access != source.Access:
		return fault.New(fault.Invalid, "access %q is asked for, its source %s is of access %q", v.Access, source.ID, source.Access)
	case fsType != sourceType:
		return fault.New(fault.Invalid, "file system %q is asked for, its source %s has %q", fsType, source.ID, sourceType)
	case !v.Snapshot && v.Bytes < source.Bytes:
		return fault.New(fault.OutOfRange, "%d bytes are asked for, its source %s has %d", v.Bytes, source.ID, source.Bytes)
	}
	return nil
}

// copy makes a copy in its folder in tmp/, with its mark, all of it durable. A mark that is there already says that
// an earlier call had come so far.
func (p *pool) copy(ctx context.Context, root *file.Root, b body, c duplicate) (meta, error) {
	m, err := readMark(root, c.dir)
	if err == nil && m.of(c.volume) {
		return m, errors.Join(root.Unlink(ctx, c.dir+"/"+workName), root.Sync(c.dir))
	}
	if fault.Is(err, fault.Precondition) { // half a mark, of a power cut
		err = root.Unlink(ctx, c.dir+"/"+metaName)
	}
	if err != nil && !foreign(err) {
		return meta{}, err
	}
	m = metaOf(c.volume, roundUp(c.volume.Bytes))
	if c.volume.Snapshot {
		m.Bytes = c.source.Bytes
	}
	m.Source = &origin{ID: c.source.ID, UID: c.source.UID, Snapshot: c.source.Snapshot}
	if err := b.copy(ctx, root, c, &m); err != nil {
		return meta{}, err
	}
	if err := newMark(ctx, root, c.dir, m); err != nil {
		return meta{}, err
	}
	return m, errors.Join(root.Unlink(ctx, c.dir+"/"+workName), root.Sync(c.dir))
}

// fresh makes an empty folder in tmp/, whatever an earlier call left there.
func (p *pool) fresh(ctx context.Context, root *file.Root, dir string) error {
	if err := p.drop(ctx, root, dir); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	err := root.Mkdir(ctx, dir, dirMode)
	return fault.Wrap(err, "begin in", path.Join(root.Path(), dir))
}
