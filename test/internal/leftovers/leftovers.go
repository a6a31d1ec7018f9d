// Package leftovers finds what a driver left behind on a machine: mounts and loop devices that belong to
// a folder, and the files of volumes in directory datastores. It asks the kernel and reads folders, and
// knows nothing of the driver's own code.
package leftovers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// Mounts returns the mount points below a folder, the innermost first. The folder itself is not one.
func Mounts(folder string) ([]string, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, folder+"/"), false
	})
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	paths := make([]string, len(found))
	for i, m := range found {
		paths[i] = m.Mountpoint
	}
	// The table lists a mount after the one that it lies on.
	slices.Reverse(paths)
	return paths, nil
}

// Loop is a loop device and the file behind it.
type Loop struct {
	Device, File string
}

// Loops returns the loop devices whose files lie below a folder, deleted ones included (sysfs: the
// attribute loop/backing_file of a block device).
func Loops(folder string) ([]Loop, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	attributes, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var loops []Loop
	for _, attribute := range attributes {
		text, err := os.ReadFile(attribute)
		if errors.Is(err, fs.ErrNotExist) {
			continue // detached since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("read the file behind a loop device: %w", err)
		}
		file := strings.TrimSuffix(strings.TrimRight(string(text), "\n"), " (deleted)")
		if strings.HasPrefix(file, folder+"/") {
			device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(attribute)))
			loops = append(loops, Loop{Device: device, File: file})
		}
	}
	return loops, nil
}

// VolumeFiles returns what lies in the folders of a directory datastore where volumes are kept, made and
// removed.
func VolumeFiles(datastore string) ([]string, error) {
	var found []string
	for _, folder := range []string{"volumes", "snapshots", "archived", ".datastore-csi/tmp", ".datastore-csi/trash"} {
		entries, err := os.ReadDir(filepath.Join(datastore, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			found = append(found, filepath.Join(datastore, folder, e.Name()))
		}
	}
	return found, nil
}

// In returns all of it as sentences: mounts and loop devices below the folder, files of volumes in the
// datastores.
func In(folder string, datastores []string) ([]string, error) {
	var found []string
	mounts, err := Mounts(folder)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		found = append(found, "mount "+m)
	}
	loops, err := Loops(folder)
	if err != nil {
		return nil, err
	}
	for _, l := range loops {
		found = append(found, "loop device "+l.Device+" on "+l.File)
	}
	for _, d := range datastores {
		files, err := VolumeFiles(d)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			found = append(found, "file "+f)
		}
	}
	return found, nil
}

// Gone waits until In finds nothing, and returns an error that lists what is left when the context ends
// first. A volume's removal goes on after DeleteVolume has answered, and the kernel lets go of a loop
// device when the last of its openers (udev, say) closes it; nothing tells of both, hence the look every
// few milliseconds.
func Gone(ctx context.Context, folder string, datastores []string) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		found, err := In(folder, datastores)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("left behind: %s", strings.Join(found, "; "))
		}
	}
}
