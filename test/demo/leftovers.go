package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// mountsBelow returns the mount points below a folder, those that were mounted last first.
func mountsBelow(folder string) ([]string, error) {
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, folder+"/"), false
	})
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	var paths []string
	for _, m := range slices.Backward(found) {
		paths = append(paths, m.Mountpoint)
	}
	return paths, nil
}

// leftovers returns, as words for a person, the mounts and loop devices that belong to a folder, and what
// lies where directory datastores keep, make and remove volumes.
func leftovers(folder string, stores []string) ([]string, error) {
	var found []string
	mounts, err := mountsBelow(folder)
	if err != nil {
		return nil, err
	}
	for _, path := range mounts {
		found = append(found, "mount "+path)
	}
	loops, err := harness.Loops(folder)
	if err != nil {
		return nil, err
	}
	for _, device := range slices.Sorted(maps.Keys(loops)) {
		found = append(found, "loop device "+device+" of "+loops[device])
	}
	for _, store := range stores {
		for _, part := range []string{"volumes", "snapshots", ".datastore-csi/tmp", ".datastore-csi/trash"} {
			entries, err := os.ReadDir(filepath.Join(store, part))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, e := range entries {
				found = append(found, "file "+filepath.Join(store, part, e.Name()))
			}
		}
	}
	return found, nil
}

// cleanUp puts the machine back as it was after a demo that broke off: the driver is killed, and what is
// mounted or attached below the demo's folder is taken away, and the folder too. Nothing else is touched.
func (d *demo) cleanUp() error {
	errs := []error{d.driver.end(syscall.SIGKILL)}
	for _, v := range d.volumes() {
		if v.open != nil {
			errs = append(errs, v.open.Close())
		}
	}
	mounts, err := mountsBelow(d.folder)
	errs = append(errs, err)
	for _, path := range mounts {
		if err := unix.Unmount(path, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
	}
	loops, err := harness.Loops(d.folder)
	errs = append(errs, err)
	for device := range loops {
		errs = append(errs, detach("/dev/"+device))
	}
	// With something still mounted below, removing files would remove what is in there.
	left, err := leftovers(d.folder, nil)
	if errs = append(errs, err); err != nil || len(left) > 0 {
		return errors.Join(append(errs, fmt.Errorf("still there, to be taken away by hand: %s; %s", strings.Join(left, "; "), d.folder))...)
	}
	return errors.Join(append(errs, os.RemoveAll(d.folder))...)
}

// detach frees a loop device (loop(4)). One that is free already is success.
func detach(device string) error {
	file, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(file.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("detach %s: %w", device, err)
	}
	return errors.Join(err, file.Close())
}
