package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Open makes the volume reachable: an image as a loop device, a sub-directory as itself.
func (p *pool) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	opened, err := p.attach(ctx, v, readOnly)
	return opened, p.about(err, "open", v)
}

func (p *pool) attach(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	if err := p.check(v); err != nil {
		return datastore.Opened{}, err
	}
	if v.Snapshot {
		return datastore.Opened{}, fault.New(fault.Invalid, "a snapshot is never opened; make a volume from it")
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Opened{}, err
	}
	defer root.Close()
	b, dir, m, err := p.marked(root, v)
	if err != nil {
		return datastore.Opened{}, err
	}
	m.Wipe = p.wipeOf(v)
	return b.open(ctx, root, dir, m, readOnly)
}

// Close undoes Open.
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
	b, dir, _, err := p.marked(root, v)
	if notTheVolume(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.close(ctx, root, dir)
}

// notTheVolume tells whether an error says that there is no volume, or something else in its place: what
// isn't the volume isn't attached as one, and a consumer must be able to let go all the same.
func notTheVolume(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition)
}
