package partition

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// provision makes the file system on a device that bears none, where that is allowed.
func (p *pool) provision(ctx context.Context, d *device, known *memory) (filesystem.Signature, error) {
	none, poolUUID := filesystem.Signature{}, p.current().PoolUUID
	switch {
	case known.UUID != "" && !known.Making:
		return none, fault.New(fault.Unavailable, "device %s bears no file system, and the datastore lies on %s with UUID %s%s; is it another disk? "+
			"It is not formatted: bring back the right one, or give the datastore a new name", d.path, known.Type, known.UUID, bearerOf(known.UUID))
	case poolUUID != "":
		return none, fault.New(fault.Unavailable, "device %s bears no file system, and pool %s of the datastore lay on one; is it another disk? "+
			"It is not formatted: bring back the right one, or give the datastore a new name", d.path, poolUUID)
	case p.spec.Provision != v1alpha1.ProvisionIfEmpty:
		return none, fault.New(fault.Unavailable, "device %s bears no file system; make one, or let the driver do so on a blank device "+
			"(spec.partition.provision: IfEmpty)", d.path)
	}
	t := filesystem.Type(p.spec.FSType)
	if _, err := p.options(t); err != nil {
		return none, err
	}
	if !known.Making || known.Type != p.spec.FSType {
		*known = memory{UUID: p.tools.NewUUID(), Type: p.spec.FSType, Making: true}
		if err := p.remember(ctx, *known); err != nil {
			return none, err
		}
	}
	// Make looks at all there is on the device once more, through a descriptor of its own of the very device.
	f := filesystem.Format{Type: t, UUID: known.UUID, ProjectQuotas: t == filesystem.Ext4, Lazy: true}
	if t == filesystem.Btrfs { // which gets its UUID only behind mkfs
		f.Label = known.UUID
	}
	err := filesystem.Make(ctx, p.run, d.tool, f)
	if err != nil {
		return none, fault.Wrap(d.named(err), "provision", d.path)
	}
	return p.probe(ctx, d)
}

// options are the administrator's for a file system.
func (p *pool) options(t filesystem.Type) ([]string, error) {
	options, err := filesystem.MountOptions(t, p.spec.MountOptions)
	return options, fault.Wrap(err, "", "spec.partition.mountOptions")
}

// attach mounts the device in the pool's place, with project quotas where the kernel and the file system have them. making
// tells that the file system is new.
func (p *pool) attach(ctx context.Context, d *device, t filesystem.Type, making bool) error {
	options, err := p.options(t)
	if err != nil {
		return err
	}
	mount := func(more ...string) error {
		return outlast(ctx, t, func() error { return p.mounts.Mount(ctx, d.path, p.path, string(t), append(more, options...)) })
	}
	if t == filesystem.Btrfs { // what limits directories there is no option of mount(8)
		return mount()
	}
	err = mount("prjquota")
	if !fault.Is(err, fault.Precondition) && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Internal) {
		return err
	}
	quotas := false
	if t == filesystem.Ext4 && making {
		if quotas, err = filesystem.HasProjectQuotas(ctx, p.run, d.tool); err != nil {
			return d.named(err)
		}
	}
	if quotas {
		if err := filesystem.DropProjectQuotas(ctx, p.run, d.tool); err != nil {
			return d.named(err)
		}
	}
	return mount()
}

// lingering is how long a mount may outlive its unmounting: a program that is given mounts of its own (unshare(2), a container)
// takes a copy of all, and drops it a moment later.
const lingering = 5 * time.Second

// outlast tries to mount a file system until no copy of the mount with which it was looked at keeps its options. Of that btrfs says
// that the new ones are invalid.
func outlast(ctx context.Context, t filesystem.Type, mount func() error) error {
	ctx, cancel := context.WithTimeout(ctx, lingering)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		err := mount()
		if !fault.Is(err, fault.Busy) && (t != filesystem.Btrfs || !errors.Is(err, unix.EINVAL)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
