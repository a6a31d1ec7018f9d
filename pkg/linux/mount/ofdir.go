package mount

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// OfDirectory returns the mounts of an open directory, or of what is in it, in this mount namespace: where it was bound to.
// The mount that it was opened through is none of them, unless the directory is that mount's root.
//
// name is a component of the directory's path within its file system. Where the table doesn't hold it, its lines
// aren't read one by one: a component that few others have is a good one. "" is none.
func (m *Mounter) OfDirectory(ctx context.Context, dir *os.File, name string) ([]Entry, error) {
	found, err := m.ofDirectory(ctx, dir, name)
	return found, fault.Wrap(err, "look for mounts of", dir.Name())
}

func (m *Mounter) ofDirectory(ctx context.Context, dir *os.File, name string) ([]Entry, error) {
	if named, err := m.names(name); err != nil || !named {
		return nil, err
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return nil, err
	}
	p, err := inspectFD(int(dir.Fd()))
	if err != nil {
		return nil, err
	}
	entries, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	root, major, minor, err := rootOf(entries, p.MountID, path)
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, e := range entries {
		if e.Major == major && e.Minor == minor && (e.Root == root || strings.HasPrefix(e.Root, root+"/")) {
			found = append(found, e)
		}
	}
	return found, nil
}

// names tells whether the mount table holds a component of a path at all.
func (m *Mounter) names(component string) (bool, error) {
	if strings.ContainsAny(component, " \t\n\\#") { // written in another way there, see proc(5)
		return true, nil
	}
	table, err := os.ReadFile(m.mountInfo)
	return bytes.Contains(table, []byte("/"+component)), err
}

// rootOf returns what the mount table calls a path that lies in the mount of that ID, as the root of another mount.
func rootOf(entries []Entry, mountID uint64, path string) (root string, major, minor int, err error) {
	for _, e := range entries {
		if uint64(e.ID) != mountID {
			continue
		}
		rel, err := filepath.Rel(e.MountPoint, path)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			break
		}
		return filepath.Join(e.Root, rel), e.Major, e.Minor, nil
	}
	return "", 0, 0, fault.New(fault.Unavailable, "mount %d, in which it lies at %s, is not in the mount table; was it unmounted?", mountID, path)
}
