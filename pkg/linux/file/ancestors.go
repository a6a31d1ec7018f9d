package file

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Ancestors returns the directories above the root: on the way up to the top of the mount namespace, and,
// where a mount on that way shows only a part of its file system (a bind mount), the directories that the part
// lies in, so far as another mount shows them. A directory may be among them twice.
func (r *Root) Ancestors() ([]ID, error) {
	above, roots, err := climb(r.dir, false)
	if err != nil {
		return nil, failed("find the directories above", r.path, err)
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, failed("read the mount table for", r.path, err)
	}
	for _, root := range roots {
		above = append(above, behind(mounts, root)...)
	}
	return above, nil
}

// place is a directory in one mount: a directory that is bound on one below it has the same ID.
type place struct {
	ID
	mount uint64
}

func placeOf(f *os.File) (place, error) {
	var s unix.Statx_t
	mask := unix.STATX_INO | unix.STATX_MNT_ID
	if err := retry(func() error { return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, mask, &s) }); err != nil {
		return place{}, failed("stat", f.Name(), err)
	}
	return place{ID: ID{Dev: unix.Mkdev(s.Dev_major, s.Dev_minor), Inode: s.Ino}, mount: s.Mnt_id}, nil
}

// climb goes from a directory up to the top of the namespace, or of its mount, and returns the directories
// above it and the mounts' roots that it came by.
func climb(from *os.File, withinMount bool) (above []ID, roots []place, err error) {
	here, err := placeOf(from)
	if err != nil {
		return nil, nil, err
	}
	for dir := from; ; {
		fd, err := openat2(int(dir.Fd()), "..", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC})
		if dir != from {
			release(dir)
		}
		if err != nil {
			return nil, nil, err
		}
		dir = os.NewFile(uintptr(fd), "above "+from.Name())
		up, err := placeOf(dir)
		if up == here || up.mount != here.mount { // the top is its own parent
			roots = append(roots, here)
		}
		if err != nil || up == here || withinMount && up.mount != here.mount {
			release(dir)
			return above, roots, err
		}
		above, here = append(above, up.ID), up
	}
}

// behind returns the directories that a mount's root lies in within its file system, by way of another
// mount that shows more of it.
func behind(mounts []*mountinfo.Info, root place) []ID {
	i := slices.IndexFunc(mounts, func(m *mountinfo.Info) bool { return uint64(m.ID) == root.mount })
	if i < 0 || mounts[i].Root == "/" {
		return nil
	}
	mine := mounts[i]
	var wider []*mountinfo.Info
	for _, m := range mounts {
		if m.Major == mine.Major && m.Minor == mine.Minor && m.Root != mine.Root && strings.HasPrefix(mine.Root, strings.TrimSuffix(m.Root, "/")+"/") {
			wider = append(wider, m)
		}
	}
	// The one that shows most first. One that lies under another mount leads elsewhere, and is passed over.
	slices.SortStableFunc(wider, func(a, b *mountinfo.Info) int { return cmp.Compare(len(a.Root), len(b.Root)) })
	for _, m := range wider {
		if above, ok := within(m, strings.TrimPrefix(mine.Root, m.Root), root.ID); ok {
			return above
		}
	}
	return nil
}

// within returns the directories above one of that identity, up to the root of a mount, in which it has
// that path.
func within(m *mountinfo.Info, path string, want ID) ([]ID, bool) {
	path = filepath.Join(m.Mountpoint, path)
	fd, err := openat2(unix.AT_FDCWD, path, unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, false
	}
	dir := os.NewFile(uintptr(fd), path)
	defer release(dir)
	if p, err := placeOf(dir); err != nil || p.ID != want || p.mount != uint64(m.ID) {
		return nil, false
	}
	above, _, err := climb(dir, true)
	return above, err == nil
}
