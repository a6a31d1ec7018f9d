package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a mounted file system on an image file of its own: what a pool lies on.
type Disk struct {
	// Type is ext4, xfs or btrfs.
	Type string
	// Image is the file that backs it, Path where it is mounted.
	Image, Path string
}

// NewDisk makes a file system of that type and size in bytes, and mounts it. All is undone when the test ends.
func NewDisk(t testing.TB, fsType string, bytes int64) *Disk {
	t.Helper()
	dir := Dir(t)
	d := &Disk{Type: fsType, Image: filepath.Join(dir, "disk.img"), Path: filepath.Join(dir, "pool")}
	if err := d.make(bytes); err != nil {
		t.Fatalf("make a %s disk: %v", fsType, err)
	}
	t.Cleanup(func() {
		if err := unmountAll(d.Path); err != nil {
			t.Errorf("unmount %s: %v", d.Path, err)
		}
	})
	return d
}

// MakeDisk makes and mounts a disk in a folder for a program that is no test: the caller unmounts it. Its image is written from
// end to end, so that no write to it needs new space on the file system below.
func MakeDisk(ctx context.Context, folder, fsType string, bytes int64) (*Disk, error) {
	d := &Disk{Type: fsType, Image: filepath.Join(folder, "disk.img"), Path: filepath.Join(folder, "pool")}
	if err := writeZeroes(ctx, d.Image, bytes); err != nil {
		return nil, err
	}
	return d, d.onImage()
}

func writeZeroes(ctx context.Context, path string, bytes int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for at := int64(0); at < bytes && err == nil; at += int64(len(block)) {
		_, err = f.WriteAt(block[:min(int64(len(block)), bytes-at)], at)
		err = errors.Join(err, ctx.Err())
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (d *Disk) make(bytes int64) error {
	if err := os.WriteFile(d.Image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.Image, bytes); err != nil {
		return err
	}
	return d.onImage()
}

// onImage makes the file system on the image and mounts it.
func (d *Disk) onImage() error {
	var options []string
	if d.Type == "ext4" {
		options = []string{"-m", "0"} // nothing for root alone, as a disk for data is made
	}
	if err := Mkfs(d.Type, d.Image, options...); err != nil {
		return err
	}
	if err := os.Mkdir(d.Path, 0o755); err != nil {
		return err
	}
	if err := d.Mount(0); err != nil {
		return err
	}
	if d.Type != "ext4" {
		return nil
	}
	return os.Remove(filepath.Join(d.Path, "lost+found")) // mkfs's; a blank pool is empty
}

// Mkfs makes a file system on a file or device with its tool's defaults.
func Mkfs(fsType, on string, options ...string) error {
	args := map[string][]string{"ext4": {"-q", "-F"}, "xfs": {"-q", "-f"}, "btrfs": {"-q", "-f"}}[fsType]
	if args == nil {
		return fmt.Errorf("no tool for a file system %q", fsType)
	}
	return Run("mkfs."+fsType, append(append(args, options...), on)...)
}

// Run runs a tool and returns what it said as an error where it failed.
func Run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

// Mount mounts the disk on its path: flags as in mount(2).
func (d *Disk) Mount(flags uintptr) error {
	device, err := attach(d.Image)
	if err != nil {
		return err
	}
	// The mount holds the device now; without it the kernel would detach it at this close.
	return errors.Join(unix.Mount(device.Name(), d.Path, d.Type, flags, ""), device.Close())
}

// Unmount unmounts the disk. The mount point stays. Still in use is EBUSY.
func (d *Disk) Unmount() error { return Unmount(d.Path) }

// Remount changes the flags of the mounted file system.
func (d *Disk) Remount(flags uintptr) error {
	return unix.Mount("", d.Path, "", unix.MS_REMOUNT|flags, "")
}

// Freeze stops all writing to the file system: whoever writes hangs in the kernel until it is thawed, which
// it is in any case when the test ends.
func (d *Disk) Freeze(t testing.TB) (thaw func()) {
	t.Helper()
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err != nil {
		t.Fatalf("freeze %s: %v", d.Path, err)
	}
	thawed := false
	thaw = func() {
		if thawed {
			return
		}
		thawed = true
		if err := errors.Join(unix.IoctlSetInt(int(f.Fd()), fiThaw, 0), f.Close()); err != nil {
			t.Errorf("thaw %s: %v", d.Path, err)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// FIFREEZE and FITHAW of linux/fs.h: _IOWR('X', 119, int), _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// Used is the bytes in use on the file system, all writes done.
func (d *Disk) Used() (int64, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return 0, fmt.Errorf("sync %s: %w", d.Path, err)
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, err
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize, nil
}

// Free is the bytes that can still be written to the file system: on btrfs the blocks that are free tell nothing.
func (d *Disk) Free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.Path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// unmountAll takes away all mounts on a path, however many lie on each other.
func unmountAll(path string) error {
	for {
		err := Unmount(path)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // not a mount point any more
		case err != nil:
			// Lazily, so that the next test finds order; the error is reported all the same.
			return errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
		}
	}
}

// UnmountUnder unmounts all that is mounted in a folder, the last first.
func UnmountUnder(folder string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var paths []string
	for line := range strings.Lines(string(text)) {
		if path := unescape(strings.Fields(line)[4]); strings.HasPrefix(path, folder+"/") {
			paths = append(paths, path)
		}
	}
	slices.Reverse(paths)
	for _, path := range paths {
		if err := Unmount(path); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return nil
}
