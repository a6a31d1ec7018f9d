package partition

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// look opens the pool where its file system is mounted, wherever that is. It is mounted for it only where there is a folder for
// mounts: not even a read-only mount leaves a device as it was, since the log is replayed.
func (p *pool) look(ctx context.Context) error {
	d, err := p.openDevice(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	all, err := p.mountsOf(ctx, d)
	if err != nil {
		return err
	}
	if len(all) == 0 && p.tools.MountDir != "" {
		return p.lookIn(ctx, d)
	}
	if len(all) == 0 {
		return fault.New(fault.Unavailable, "device %s is not mounted, and nothing is mounted only to be looked at; mount it read-only anywhere "+
			"(mount -o ro %s /mnt), look again, and unmount it", d.path, d.path)
	}
	p.path = all[0].MountPoint
	in, err := directory.Open(ctx, p.current(), p.place())
	if err != nil {
		return err
	}
	p.set(&mounted{Pool: in, device: d.number})
	return nil
}

// lookIn mounts a file system that bears this pool's marker where the driver would. Nothing else is mounted, or made.
func (p *pool) lookIn(ctx context.Context, d *device) error {
	p.path = mountPoint(p.tools, p.name)
	if err := p.prepare(ctx); err != nil {
		return err
	}
	sig, err := p.probe(ctx, d)
	if err != nil {
		return err
	}
	if sig.Type == "" {
		return fault.New(fault.NotFound, "there is no pool on device %s: it is blank", d.path)
	}
	if err := p.recognise(sig, memory{}); err != nil {
		return err
	}
	t := filesystem.Type(sig.Type)
	marked, err := p.acquaint(ctx, d, t)
	if err != nil {
		return err
	}
	if !marked {
		return fault.New(fault.NotFound, "there is no pool on device %s: its file system has no marker", d.path)
	}
	if err := filesystem.Check(ctx, p.run, d.tool, t); err != nil {
		return d.named(err)
	}
	if err := p.attach(ctx, d, t, false); err != nil {
		return err
	}
	in, err := directory.Open(ctx, p.current(), p.place())
	if err != nil {
		return p.undo(ctx, err)
	}
	p.set(&mounted{Pool: in, device: d.number})
	return nil
}
