package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Device is a disk that nobody has mounted: an image that is connected as a block device under a name that stays.
type Device struct {
	// Image backs it, Name is the stable one.
	Image, Name string
	node        *os.File
}

// NewDevice makes a blank disk of that size in bytes, sparse. It is gone when the test ends.
func NewDevice(t testing.TB, bytes int64) *Device {
	t.Helper()
	folder, err := os.MkdirTemp("/dev", "datastore-csi-test-") // as udev makes them
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{Image: filepath.Join(Dir(t), "disk.img"), Name: filepath.Join(folder, "disk")}
	t.Cleanup(func() {
		if err := errors.Join(d.Disconnect(), os.RemoveAll(folder)); err != nil {
			t.Errorf("the test's disk: %v", err)
		}
	})
	err = os.WriteFile(d.Image, nil, 0o600)
	if err = errors.Join(err, os.Truncate(d.Image, bytes), d.Connect()); err != nil {
		t.Fatal(err)
	}
	return d
}

// Connect makes the disk appear, as whatever device is free.
func (d *Device) Connect() error {
	node, err := attach(d.Image)
	if err != nil {
		return err
	}
	d.node = node
	return os.Symlink(node.Name(), d.Name)
}

// Connected tells whether the disk is there.
func (d *Device) Connected() bool { return d.node != nil }

// Disconnect takes all of the disk's mounts off and makes it disappear. In use is EBUSY.
func (d *Device) Disconnect() error {
	if d.node == nil {
		return nil
	}
	if err := os.Remove(d.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for {
		at, err := d.Mounted()
		if err != nil {
			return err
		}
		if len(at) == 0 {
			break
		}
		if err := Unmount(at[len(at)-1]); err != nil {
			return fmt.Errorf("unmount %s: %w", at[len(at)-1], err)
		}
	}
	err := d.node.Close()
	d.node = nil
	return err
}

// Mounted are the places where all of the disk's file system is mounted, the oldest first. Not for btrfs.
func (d *Device) Mounted() ([]string, error) {
	if d.node == nil {
		return nil, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.node.Fd()), &st); err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	var at []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[2] == number && fields[3] == "/" {
			at = append(at, unescape(fields[4]))
		}
	}
	return at, nil
}

// Mount mounts the disk for the administrator: flags and data as in mount(2).
func (d *Device) Mount(at, fsType string, flags uintptr, data string) error {
	return unix.Mount(d.node.Name(), at, fsType, flags, data)
}
