package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Entry is one line of the mount table (proc(5), /proc/pid/mountinfo), its octal escapes decoded.
type Entry struct {
	ID, ParentID int
	// Major and Minor are the file system's st_dev; btrfs has an anonymous one (major 0).
	Major, Minor int
	// Root is the directory of the file system that is mounted, MountPoint where it is seen.
	Root, MountPoint string
	// Source is what the file system says it was mounted from: a device's path, or any word.
	Source, FSType string
	// Options are the mount's own, SuperOptions the file system's.
	Options, SuperOptions []string
}

// List returns the mount table in its order: a mount stands behind those that it lies on.
//
// The parser is moby/sys/mountinfo's. k8s.io/mount-utils' ParseMountInfo cuts lines at any white space
// of Unicode, so one mount of anybody's on a path with a no-break space makes it read nonsense, and
// one with an empty source makes it refuse the whole table.
func (m *Mounter) List(ctx context.Context) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(err, "read the mount table", m.mountInfo)
	}
	f, err := os.Open(m.mountInfo)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	infos, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the mount table %s: %w", m.mountInfo, err)
	}
	entries := make([]Entry, 0, len(infos))
	for _, i := range infos {
		entries = append(entries, Entry{
			ID: i.ID, ParentID: i.Parent, Major: i.Major, Minor: i.Minor,
			Root: i.Root, MountPoint: i.Mountpoint, Source: i.Source, FSType: i.FSType,
			Options: splitOptions(i.Options), SuperOptions: splitOptions(i.VFSOptions),
		})
	}
	return entries, nil
}

// splitOptions cuts a list at its commas, except within double quotes (SELinux contexts hold some).
func splitOptions(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

// OfDevice returns the mounts of the file system that lies on the block device of that number. source
// is the device's path: a file system with an anonymous st_dev (btrfs) is recognised by its Source,
// which must lead to the device, or be that path where it leads nowhere any more. btrfs names only one
// device of several.
func (m *Mounter) OfDevice(ctx context.Context, major, minor int, source string) ([]Entry, error) {
	entries, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, e := range entries {
		if e.Major == major && e.Minor == minor || e.Major == 0 && comesFrom(e.Source, major, minor, source) {
			found = append(found, e)
		}
	}
	return found, nil
}

// comesFrom tells whether a mount's source is the device. Only device nodes are looked at: the source
// of another kind of mount may be a path on a file system that doesn't answer.
func comesFrom(mounted string, major, minor int, source string) bool {
	if mounted != source && !strings.HasPrefix(mounted, "/dev/") {
		return false
	}
	var st unix.Stat_t
	err := unix.Stat(mounted, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return mounted == source
	}
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == unix.Mkdev(uint32(major), uint32(minor))
}
