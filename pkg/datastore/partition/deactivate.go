package partition

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

const (
	// pointMode keeps everybody but root out of a mount point on which nothing is mounted.
	pointMode = 0
	// lookSuffix is behind the name of the mount point on which a file system is looked at. No datastore's name has a dot.
	lookSuffix = ".look"
)

// prepare makes the mount point.
func (p *pool) prepare(ctx context.Context) error {
	root, err := file.MakeRoot(ctx, p.tools.MountDir, folderMode)
	if err != nil {
		return err
	}
	root.Close()
	_, err = p.mounts.MakeDirTarget(ctx, p.path, pointMode)
	return err
}

// adopt takes over the mount of a datastore that is switched off, where there is one: what is in use there must be let go
// of. Nothing is mounted.
func (p *pool) adopt(ctx context.Context) error {
	release, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	at, err := p.mounts.Inspect(ctx, p.path)
	if err != nil || !at.IsMount {
		return err
	}
	d, err := p.openDevice(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	if ours, err := isOf(at, d, p.path); err != nil || !ours {
		return err
	}
	in, err := directory.Open(ctx, p.current(), p.place())
	if err != nil {
		return err
	}
	p.set(&mounted{Pool: in, device: d.number, dev: at.Dev})
	return nil
}

// Deactivate unmounts the file system. One that is in use is fault.Busy, and stays.
func (p *pool) Deactivate(ctx context.Context) error {
	release, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := unmount(ctx, p.mounts, p.path); err != nil {
		return err
	}
	p.set(nil)
	return nil
}

// retire is the type's Retire.
func retire(ctx context.Context, tools datastore.Tools, name string) error {
	mounts := mount.New(mount.Config{})
	for _, path := range []string{filepath.Join(tools.MountDir, name+lookSuffix), filepath.Join(tools.MountDir, name)} {
		if err := unmount(ctx, mounts, path); err != nil {
			return err
		}
	}
	return forget(ctx, tools.StateDir, name)
}

// unmount takes everything off a mount point, and the mount point away.
func unmount(ctx context.Context, mounts *mount.Mounter, path string) error {
	for {
		at, err := mounts.Inspect(ctx, path)
		if err != nil {
			return err
		}
		if !at.IsMount {
			return mounts.RemoveTarget(ctx, path)
		}
		if err := mounts.Unmount(ctx, path); err != nil {
			return err
		}
	}
}

// tidy is the type's Tidy.
func tidy(ctx context.Context, tools datastore.Tools, keep func(name string) bool) error {
	names := map[string]bool{}
	for _, dir := range []string{tools.MountDir, tools.StateDir} {
		root, err := file.OpenRoot(dir)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		found, err := root.ReadDir(".", 0)
		root.Close()
		if err != nil {
			return err
		}
		for _, name := range found {
			if !file.Temporary(name) {
				names[strings.TrimSuffix(strings.TrimSuffix(name, memorySuffix), lookSuffix)] = true
			}
		}
	}
	var errs []error
	for name := range names {
		if !keep(name) {
			errs = append(errs, retire(ctx, tools, name))
		}
	}
	return errors.Join(errs...)
}
