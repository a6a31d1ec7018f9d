package partition

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// look opens the pool where its file system is mounted, wherever that is. Nothing is mounted for it: not even a read-only mount
// leaves a device as it was, since the log is replayed.
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
