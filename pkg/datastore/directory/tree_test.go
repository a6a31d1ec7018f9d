package directory_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Project quotas are tested in test/tree, in a kernel that has them.

// tree is a sub-directory whose size nobody enforces.
func tree(id string, size int64) datastore.Volume {
	v := thin(id, size)
	v.Format, v.Access, v.Quota = v1alpha1.FormatSubdirectory, v1alpha1.Filesystem, v1alpha1.QuotaNone
	return v
}

func limitedTree(id string, size int64) datastore.Volume {
	v := tree(id, size)
	v.Quota = v1alpha1.QuotaRequired
	return v
}

func dataOf(path string, v datastore.Volume) string {
	kind := "volumes"
	if v.Snapshot {
		kind = "snapshots"
	}
	return filepath.Join(path, kind, v.BackendName(), "data")
}

func openTree(t *testing.T, p datastore.Pool, v datastore.Volume) datastore.Opened {
	t.Helper()
	opened, err := p.Open(t.Context(), v, false)
	must(t, err)
	return opened
}

func TestASubdirectoryIsMadeOpenedAndRemoved(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 512*mib)
			p := newPool(t, path)
			before := under(t, path)
			v := tree("v-1", 4096)
			made := create(t, p, v)
			if again := create(t, p, v); again != made || made.Bytes != 4096 || made.Identity != v.UID {
				t.Errorf("made %+v, again %+v", made, again)
			}
			opened := openTree(t, p, v)
			info, err := os.Stat(dataOf(path, v))
			must(t, err)
			if opened.Dir != dataOf(path, v) || opened.Device != "" || opened.Bytes != 4096 || opened.Identity != v.UID || info.Mode() != os.ModeDir|0o755 {
				t.Errorf("opened %+v, mode %v", opened, info.Mode())
			}
			if opened.Tree != idOf(t, opened.Dir) {
				t.Errorf("opened tree %v, it is %v", opened.Tree, idOf(t, opened.Dir))
			}
			put(t, "kept", opened.Dir, "deep/down/file")
			must(t, os.Symlink("/", filepath.Join(opened.Dir, "link")))
			grown, err := p.Expand(t.Context(), tree("v-1", 8192))
			if err != nil || grown.Bytes != 8192 {
				t.Errorf("grown %+v, %v", grown, err)
			}
			if opened := openTree(t, p, v); opened.Bytes != 8192 {
				t.Errorf("after growing: %+v", opened)
			}
			must(t, p.Close(t.Context(), v))
			must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.DeleteData}))
			must(t, p.Reclaim(t.Context()))
			if after := under(t, path); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func idOf(t *testing.T, path string) file.ID {
	t.Helper()
	r, err := file.OpenRoot(path)
	must(t, err)
	defer r.Close()
	id, err := r.ID()
	must(t, err)
	return id
}

func TestASubdirectoryThatCannotBeIsRefused(t *testing.T) {
	for fs, how := range map[string]string{"ext4": "tune2fs", "xfs": "prjquota", "btrfs": "btrfs quota enable"} {
		path := disk(t, fs, 512*mib)
		p := newPool(t, path)
		before := under(t, path)
		for name, c := range map[string]struct {
			alter func(*datastore.Volume)
			says  string
		}{
			"with its size enforced":         {func(v *datastore.Volume) { v.Quota = v1alpha1.QuotaRequired }, how},
			"with nothing said of its quota": {func(v *datastore.Volume) { v.Quota = "" }, "quota: none"},
			"as a block device":              {func(v *datastore.Volume) { v.Access = v1alpha1.Block }, "format image"},
			"with a file system":             {func(v *datastore.Volume) { *v = formatted(*v, "xfs") }, "xfs"},
			"that is to be zeroed":           {func(v *datastore.Volume) { v.Wipe = v1alpha1.WipeZero }, "wipe"},
			"with its space taken":           {func(v *datastore.Volume) { v.Provisioning = v1alpha1.Thick }, "format image"},
		} {
			t.Run(fs+" "+name, func(t *testing.T) {
				v := tree("v-1", mib)
				c.alter(&v)
				_, err := p.Create(t.Context(), v, nil, nil)
				wantKind(t, err, fault.Invalid, c.says)
				if after := under(t, path); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
		status, err := p.Status(t.Context())
		must(t, err)
		if slices.Contains(status.Features, v1alpha1.SubdirectoryQuota) || slices.Contains(status.Features, v1alpha1.SubdirectorySnapshots) != (fs == "btrfs") {
			t.Errorf("%s: features %v", fs, status.Features)
		}
	}
}

func TestASubdirectoryThatIsMountedIsNotDeleted(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 512*mib)
			p := newPool(t, path)
			v, other := tree("v-1", mib), tree("v-10", mib)
			create(t, p, v)
			create(t, p, other)
			put(t, "kept", dataOf(path, v), "sub/file")
			for _, from := range []string{dataOf(path, v), filepath.Join(dataOf(path, v), "sub")} {
				target := t.TempDir()
				must(t, unix.Mount(from, target, "", unix.MS_BIND, ""))
				wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, target)
				must(t, unix.Unmount(target, 0))
			}
			if content(t, dataOf(path, v), "sub/file") != "kept" {
				t.Error("its content changed")
			}
			target := t.TempDir()
			must(t, unix.Mount(dataOf(path, v), target, "", unix.MS_BIND, ""))
			must(t, p.Delete(t.Context(), other, datastore.Disposal{}))
			must(t, unix.Unmount(target, 0))
			must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
			must(t, p.Reclaim(t.Context()))
		})
	}
}

func TestASubdirectoryWhoseDataIsGoneIsDataLoss(t *testing.T) {
	path := disk(t, "ext4", 64*mib)
	p := newPool(t, path)
	v := tree("v-1", mib)
	create(t, p, v)
	must(t, os.Rename(dataOf(path, v), dataOf(path, v)+".away"))
	_, err := p.Open(t.Context(), v, false)
	wantKind(t, err, fault.DataLoss, dataOf(path, v))
	must(t, os.Symlink("data.away", dataOf(path, v)))
	_, err = p.Open(t.Context(), v, false)
	wantKind(t, err, fault.Precondition)
	must(t, os.Remove(dataOf(path, v)))
	must(t, os.Rename(dataOf(path, v)+".away", dataOf(path, v)))
	openTree(t, p, v)
}

func TestSubdirectoriesAreCopiedOnBtrfsOnly(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		path := disk(t, fs, 512*mib)
		p := newPool(t, path)
		v := tree("v-1", mib)
		create(t, p, v)
		before := under(t, path)
		_, err := p.Snapshot(t.Context(), v, snapshotOfTree(v, "s-1"), nil)
		wantKind(t, err, fault.Precondition, "btrfs")
		_, err = p.Create(t.Context(), tree("v-2", mib), &v, nil)
		wantKind(t, err, fault.Precondition, "btrfs")
		if after := under(t, path); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

// snapshotOfTree is one of a volume, of its shape.
func snapshotOfTree(of datastore.Volume, id string) datastore.Volume {
	of.SourceID, of.ID, of.Name, of.UID, of.Snapshot = of.ID, id, id, uuid.NewSHA1(uuid.Nil, []byte(id)).String(), true
	return of
}
