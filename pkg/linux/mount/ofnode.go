package mount

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"
)

// OfNode returns the mounts of a block device's node itself, on a file, as raw volumes are published: what is mounted
// there is no file system on the device. Nodes lie on devtmpfs or tmpfs; mounts of others aren't looked at, since they
// may not answer.
func (m *Mounter) OfNode(ctx context.Context, major, minor uint32) ([]Entry, error) {
	entries, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	device := unix.Mkdev(major, minor)
	return slices.DeleteFunc(entries, func(e Entry) bool {
		if e.Root == "/" || e.FSType != "devtmpfs" && e.FSType != "tmpfs" {
			return true
		}
		var st unix.Stat_t
		return unix.Lstat(e.MountPoint, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != device
	}), nil
}
