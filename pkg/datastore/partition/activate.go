package partition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// activate mounts the file system, or takes over the mount that is there, and opens the pool on it. The caller holds
// the pool.
func (p *pool) activate(ctx context.Context) (*mounted, error) {
	d, err := p.openDevice(ctx)
	if err != nil {
		return nil, err
	}
	defer d.close()
	known, err := p.recall(ctx)
	if err != nil {
		return nil, err
	}
	there, err := p.clear(ctx, d)
	if err != nil {
		return nil, err
	}
	sig, err := p.probe(ctx, d)
	if err != nil {
		return nil, err
	}
	if sig.Type == "" && there == nowhere {
		if sig, err = p.provision(ctx, d, &known); err != nil {
			return nil, err
		}
	}
	if err := p.recognise(sig, known); err != nil {
		return nil, err
	}
	if there == inPlace {
		return p.enter(ctx, d, sig, known)
	}
	return p.mount(ctx, d, sig, known, there == elsewhere)
}

// whereabouts of the device's file system.
type whereabouts int

const (
	nowhere whereabouts = iota
	// inPlace is mounted where the pool is.
	inPlace
	// elsewhere is mounted only elsewhere, and bears the marker of this pool: a driver with another folder of mounts left
	// it, or the administrator looks at it. It may be mounted a second time, and must not be checked.
	elsewhere
)

// clear tells where the device is mounted. What else is mounted in the pool's place is unmounted: a disk that
// is gone, or was replaced. A device that somebody else has mounted is refused.
func (p *pool) clear(ctx context.Context, d *device) (whereabouts, error) {
	at, err := p.mounts.Inspect(ctx, p.path)
	if err != nil {
		return nowhere, err
	}
	if at.IsMount {
		ours, err := isOf(at, d, p.path)
		if err != nil {
			return nowhere, err
		}
		if ours {
			return inPlace, nil
		}
		if err := p.mounts.Unmount(ctx, p.path); err != nil {
			return nowhere, fault.New(fault.Unavailable, "another device than %s is mounted on %s, and stays so while it is in use: %w", d.path, p.path, err)
		}
	}
	if err := unmount(ctx, p.mounts, p.path+lookSuffix); err != nil { // of a process that died
		return nowhere, err
	}
	others, err := p.mountsOf(ctx, d)
	if err != nil || len(others) == 0 {
		return nowhere, err
	}
	place := p.place()
	place.Path = others[0].MountPoint
	marked, err := directory.Judge(p.current(), place)
	var foreign *datastore.ForeignError
	switch {
	case marked:
		return elsewhere, nil
	case errors.As(err, &foreign):
		return nowhere, fault.New(fault.Unavailable, "device %s is mounted on %s already: %w", d.path, place.Path, err)
	}
	return nowhere, fault.New(fault.Unavailable, "device %s is mounted on %s already, by somebody else; unmount it there, or use type directory on that path",
		d.path, place.Path)
}

// isOf tells whether a mount is of the device.
func isOf(at mount.Point, d *device, path string) (bool, error) {
	if at.Dev == d.number {
		return true, nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return false, nil // its disk is gone, say
	}
	defer dir.Close() //nolint:errcheck // it is only read
	id, _, err := btrfs.Identify(dir)
	if err != nil {
		return false, nil // no btrfs: the numbers tell
	}
	sig, err := filesystem.ReadSuperblock(d)
	return err == nil && sig.Type == string(filesystem.Btrfs) && sig.UUID == id, err
}

// mountsOf are the mounts of all of the device's file system.
func (p *pool) mountsOf(ctx context.Context, d *device) ([]mount.Entry, error) {
	all, err := p.mounts.OfDevice(ctx, int(unix.Major(d.number)), int(unix.Minor(d.number)), d.path)
	return slices.DeleteFunc(all, func(e mount.Entry) bool { return e.Root != "/" }), err
}

// recognise tells whether what a device bears is the datastore's file system.
func (p *pool) recognise(sig filesystem.Signature, known memory) error {
	dev := p.spec.Device
	made := known.Making && sig.Label == known.UUID // see provision
	if known.UUID != "" && sig.UUID != known.UUID && !made {
		return fault.New(fault.Unavailable, "device %s bears %s, and the datastore lies on %s with UUID %s; is it another disk%s? "+
			"Nothing was changed: bring back the right one, or give the datastore a new name", dev, sig, known.Type, known.UUID, bearerOf(known.UUID))
	}
	if _, err := filesystem.ParseType(sig.Type); err != nil || p.spec.FSType != "" && sig.Type != p.spec.FSType {
		return fault.New(fault.Precondition, "device %s bears %s, and the datastore wants %s; nothing was changed: give another device, "+
			"or save what is on it and make it blank", dev, sig, p.wanted())
	}
	if sig.UUID == "" {
		return fault.New(fault.Precondition, "device %s bears %s without a UUID, by which it could be told; give it one", dev, sig.Type)
	}
	return nil
}

func (p *pool) wanted() string {
	if p.spec.FSType != "" {
		return p.spec.FSType
	}
	return "ext4, xfs or btrfs"
}

// mount mounts the device for good, once it was looked at. What is mounted already was.
func (p *pool) mount(ctx context.Context, d *device, sig filesystem.Signature, known memory, already bool) (*mounted, error) {
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	t := filesystem.Type(sig.Type)
	switch {
	case already:
	case known.Making:
		if err := filesystem.Whole(ctx, p.run, d.tool, t); err != nil {
			return nil, fault.Wrap(fault.New(fault.Precondition, "it was being formatted when the driver or the machine stopped: %w; "+
				"nothing of the datastore was ever on it: overwrite it with zeroes (blkdiscard -z %s), and it is formatted again",
				d.named(err), d.path), "use device", d.path)
		}
	case known.UUID == "":
		if _, err := p.acquaint(ctx, d, t); err != nil {
			return nil, err
		}
		known = memory{UUID: sig.UUID, Type: sig.Type}
		if err := p.remember(ctx, known); err != nil {
			return nil, err
		}
	}
	if !already {
		if err := filesystem.Check(ctx, p.run, d.tool, t); err != nil {
			return nil, d.named(err)
		}
	}
	if err := p.attach(ctx, d, t, known.Making); err != nil {
		return nil, err
	}
	m, err := p.enter(ctx, d, sig, known)
	if err != nil {
		return nil, p.undo(ctx, err)
	}
	return m, nil
}

// undo takes off what was mounted in vain.
func (p *pool) undo(ctx context.Context, cause error) error {
	if err := p.mounts.Unmount(ctx, p.path); err != nil {
		return fault.New(fault.KindOf(cause), "%w; and it stays mounted on %s: %w", cause, p.path, err)
	}
	return cause
}

// acquaint looks at a file system that was never mounted here: read-only, with its log as it is. Only what judges it counts:
// what can't be read without the log is read once it is mounted for good. It tells whether this pool's marker was seen.
func (p *pool) acquaint(ctx context.Context, d *device, t filesystem.Type) (marked bool, err error) {
	path := p.path + lookSuffix
	if _, err := p.mounts.MakeDirTarget(ctx, path, pointMode); err != nil {
		return false, err
	}
	asItIs := map[filesystem.Type]string{filesystem.Ext4: "noload", filesystem.XFS: "norecovery", filesystem.Btrfs: "rescue=nologreplay"}
	if err := p.mounts.Mount(ctx, d.path, path, string(t), []string{"ro", asItIs[t]}); err != nil {
		return false, err
	}
	err = p.verify(ctx, d, path)
	if err == nil {
		place := p.place()
		place.Path = path
		marked, err = directory.Judge(p.current(), place)
		if !fault.Is(err, fault.Precondition) && !fault.Is(err, fault.Unavailable) {
			err = nil
		}
	}
	if unmountErr := unmount(ctx, p.mounts, path); err == nil {
		err = unmountErr
	}
	return marked, err
}

// verify tells whether what was just mounted is the device that was looked at.
func (p *pool) verify(ctx context.Context, d *device, path string) error {
	at, err := p.mounts.Inspect(ctx, path)
	if err != nil {
		return err
	}
	ours, err := isOf(at, d, path)
	if err == nil && !ours {
		err = fault.New(fault.Unavailable, "device %s is another one than a moment ago; nothing was made on it", d.path)
	}
	return err
}

// enter opens the pool on what is mounted.
func (p *pool) enter(ctx context.Context, d *device, sig filesystem.Signature, known memory) (*mounted, error) {
	if err := p.verify(ctx, d, p.path); err != nil {
		return nil, err
	}
	in, err := directory.Open(ctx, p.current(), p.place())
	if err != nil {
		return nil, err
	}
	if known.UUID == "" || known.Making {
		if err := p.remember(ctx, memory{UUID: sig.UUID, Type: sig.Type}); err != nil {
			return nil, err
		}
	}
	at, err := p.mounts.Inspect(ctx, p.path)
	return &mounted{Pool: in, device: d.number, dev: at.Dev}, err
}

func (p *pool) place() directory.Place {
	return directory.Place{Path: p.path, Initialize: p.spec.Initialize, AdoptFrom: p.spec.AdoptFrom, Settings: "spec.partition"}
}

// moved tells that the device's path doesn't lead any more to what is mounted.
func (p *pool) moved() []v1alpha1.Finding {
	m, _ := p.now()
	if m == nil {
		return nil
	}
	switch nowAt(p.spec.Device) {
	case m.device:
		return nil
	case 0:
		return []v1alpha1.Finding{{Reason: "DeviceMissing", Message: fmt.Sprintf(
			"device %s is not there any more, and what was mounted of it still answers; connect it, or correct spec.partition.device", p.spec.Device)}}
	}
	return []v1alpha1.Finding{{Reason: "DeviceMoved", Message: fmt.Sprintf(
		"device %s leads to another device than the one that is mounted, which still answers; is it a name that stays?", p.spec.Device)}}
}

// anew mounts again what fails where its device is gone or has come back.
func (p *pool) anew(ctx context.Context) error {
	release, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	m, err := p.activate(ctx)
	if err != nil {
		return err
	}
	p.set(m)
	return nil
}
