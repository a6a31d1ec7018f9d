package discover

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// ownFolder is the directory that is proposed on a mounted file system: what else is there stays beside it.
const ownFolder = "datastore-csi"

// filesystems are the mounted file systems on which a directory could become a datastore, each once.
func (m *machine) filesystems() []Found {
	var out []Found
	seen := map[[2]int]bool{}
	for _, e := range m.mounts {
		t, err := filesystem.ParseType(e.FSType)
		if err != nil || e.Root != "/" && t != filesystem.Btrfs || seen[[2]int{e.Major, e.Minor}] {
			continue // no file system for images, or a part of one that is bound
		}
		seen[[2]int{e.Major, e.Minor}] = true
		f := Found{
			Kind: Filesystem, Name: nameOf(strings.Trim(e.MountPoint, "/")), Path: filepath.Join(e.MountPoint, ownFolder),
			Device: e.Source, Holds: e.FSType, of: []v1alpha1.DatastoreType{v1alpha1.TypeDirectory},
		}
		if usage, err := filesystem.Stat(e.MountPoint); err == nil {
			f.Bytes, f.Free = usage.TotalBytes, usage.AvailableBytes
		} else {
			f.refuse(err.Error())
		}
		judge(&f, e)
		f.spec = func(t v1alpha1.DatastoreType) v1alpha1.DatastoreSpec {
			return v1alpha1.DatastoreSpec{Type: t, Directory: &v1alpha1.DirectorySpec{Path: f.Path}}
		}
		out = append(out, f)
	}
	return out
}

// judge says what keeps a mounted file system from holding a datastore: what is the system's own, or another's.
func judge(f *Found, e mount.Entry) {
	if slices.Contains(e.Options, "ro") {
		f.refuse("mounted read-only")
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(e.MountPoint, "/"), "/")
	switch {
	case e.MountPoint == "/":
		f.Name = "root"
		f.Notes = append(f.Notes, "it is the root file system: a datastore that fills it stops the machine; bound it with capacity.reserve")
	case slices.Contains([]string{"boot", "usr", "etc", "efi", "run", "tmp", "dev", "proc", "sys"}, first):
		f.hidden = true
		f.refuse("the system's own")
	case strings.HasPrefix(e.MountPoint, "/var/lib/kubelet/"), strings.HasPrefix(e.MountPoint, "/var/lib/containers/"),
		strings.HasPrefix(e.MountPoint, "/var/lib/docker/"), strings.HasPrefix(e.MountPoint, "/var/lib/containerd/"):
		f.hidden = true
		f.refuse("a volume or image of containers")
	default:
		f.Notes = append(f.Notes, "make the directory first")
	}
}
