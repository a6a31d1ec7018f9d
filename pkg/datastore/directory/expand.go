package directory

import (
	"context"
	"errors"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Expand grows the volume, then the size in its mark, then tells those who use it. The mark follows: it
// promises what is there. A crash in between leaves a volume that is larger than its mark says, which the
// next call brings to an end and Open takes as it is.
func (p *pool) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	made, err := p.expand(ctx, v)
	return made, p.about(err, "expand", v)
}

func (p *pool) expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	if err := p.check(v); err != nil {
		return datastore.Made{}, err
	}
	if v.Snapshot {
		return datastore.Made{}, fault.New(fault.Invalid, "a snapshot never grows; make a larger volume from it")
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Made{}, err
	}
	defer root.Close()
	b, dir, m, err := p.marked(root, v)
	if err != nil {
		return datastore.Made{}, err
	}
	g, err := b.grow(ctx, root, dir, m, roundUp(v.Bytes))
	if err != nil {
		return datastore.Made{}, err
	}
	defer g.end()
	if err := p.promise(ctx, root, dir, v, &m, g); err != nil {
		return datastore.Made{}, err
	}
	return m.made(dir), g.tell(ctx)
}

// promise makes the mark say what is there, and what is to become of it. Where it can't, both stay as they were: nobody
// was told yet.
func (p *pool) promise(ctx context.Context, root *file.Root, dir string, v datastore.Volume, m *meta, g growth) error {
	if g.bytes == m.Bytes && v.OnDelete == m.OnDelete && v.Wipe == m.Wipe {
		return root.Sync(dir) // a call that died behind its rename had not synced it
	}
	m.Bytes, m.OnDelete, m.Wipe = g.bytes, v.OnDelete, v.Wipe
	if err := writeMark(ctx, root, dir, *m); err != nil {
		return errors.Join(err, g.undo(ctx))
	}
	return nil
}
