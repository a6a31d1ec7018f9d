package disk

import (
	"context"
	"errors"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// Open tells the kernel of the volume's partition, once it is proven to be the volume's.
func (p *pool) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	o, err := p.open(ctx, v, readOnly)
	return o, p.about(err, "open", v)
}

func (p *pool) open(ctx context.Context, v datastore.Volume, readOnly bool) (is datastore.Opened, err error) {
	if v.Snapshot {
		return is, fault.New(fault.Invalid, "a snapshot is never opened; make a volume from it")
	}
	if !readOnly {
		if err := p.tear(ctx, v); err != nil {
			return is, err
		}
	}
	err = p.on(ctx, v, false, func(o opened, n int, k mark) error {
		if !k.there() {
			return fault.New(fault.NotFound, "it is %s only", k.Phase)
		}
		d, err := o.attach(ctx, n, k)
		if err != nil {
			return err
		}
		f, err := blockdev.Open(d.Path, blockdev.Mode{})
		if err != nil {
			return fault.As(fault.Unavailable, err)
		}
		defer func() { _ = f.Close() }() // only read
		major, minor, err := blockdev.NumberOf(f)
		if err == nil && (major != d.Major || minor != d.Minor) {
			err = fault.New(fault.Precondition, "%s was replaced while it was opened; it is left alone", d.Path)
		}
		if err != nil {
			return err
		}
		is, err = p.reach(ctx, f, d, readOnly)
		is.Identity = k.Partition
		return err
	})
	return is, err
}

// reach is a partition that was proven, as a consumer gets it: itself, or, to one who may only read, a loop device on it
// that takes no writes, since others may write meanwhile.
func (p *pool) reach(ctx context.Context, f *os.File, d gpt.Device, readOnly bool) (datastore.Opened, error) {
	size, sector, err := geometry(f)
	if err != nil || !readOnly {
		return datastore.Opened{Device: d.Path, Bytes: size}, err
	}
	l, err := p.tools.Loop.Attach(ctx, f, loop.Options{ReadOnly: true, SectorSize: sector})
	return datastore.Opened{Device: l.Path, Bytes: l.Bytes}, err
}

// Close has the kernel forget the volume's partition, which it refuses while anybody uses it.
func (p *pool) Close(ctx context.Context, v datastore.Volume) error {
	err := p.on(ctx, v, false, func(o opened, n int, k mark) error {
		if err := o.matches(n, k); err != nil {
			return fault.As(fault.Precondition, err) // what isn't the volume isn't open as one
		}
		return ignoreUse(o.detach(ctx, n))
	})
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) || fault.Is(err, fault.Unavailable) && !p.there(v) {
		return nil // a disk that is gone has taken its partitions with it
	}
	return p.about(err, "close", v)
}

// there tells whether a disk that is there bears a volume.
func (p *pool) there(v datastore.Volume) bool {
	_, _, ok := p.find(v)
	return ok
}

// detach has the kernel forget a partition. One that anybody uses is fault.Precondition: also a raw one that is published and not open at the
// moment, whose number would become another's under its consumer.
func (o opened) detach(ctx context.Context, n int) error {
	d, ok, err := gpt.Find(o.file, n)
	if err != nil || !ok {
		return err
	}
	err = onNode(d, func(f *os.File) error { return o.pool.tools.Loop.Detach(ctx, f) })
	if err != nil {
		return err
	}
	published, err := mount.New(mount.Config{}).OfNode(ctx, d.Major, d.Minor)
	if err != nil {
		return err
	}
	if len(published) > 0 {
		return fault.New(fault.Precondition, "%s is published at %s", d.Path, published[0].MountPoint)
	}
	return gpt.Remove(ctx, o.file, n)
}

// onNode does something with a partition's open node.
func onNode(d gpt.Device, do func(*os.File) error) error {
	f, err := blockdev.Open(d.Path, blockdev.Mode{})
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	return do(f)
}

// InUse is what datastore.InUse asks: the partition is mounted or claimed, a process has it open, or its node is mounted
// somewhere, as a raw volume is.
func (p *pool) InUse(ctx context.Context, v datastore.Volume) (used bool, err error) {
	err = p.on(ctx, v, false, func(o opened, n int, _ mark) error {
		d, ok, err := gpt.Find(o.file, n)
		if err != nil || !ok {
			return err
		}
		used, err = p.uses(ctx, d)
		return err
	})
	return used, p.about(err, "look who uses", v)
}

func (p *pool) uses(ctx context.Context, d gpt.Device) (bool, error) {
	used, err := blockdev.InUse(d.Path)
	if err != nil || used {
		return used, err
	}
	err = onNode(d, func(f *os.File) (err error) {
		_, used, err = p.tools.Loop.Find(f, true)
		return err
	})
	if err != nil || used {
		return used, err
	}
	published, err := mount.New(mount.Config{}).OfNode(ctx, d.Major, d.Minor)
	return len(published) > 0, errors.Join(err, ctx.Err())
}
