package directory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// Each death is followed by the same call in a new process, which must come through, and by the copy's end.
func TestCopiesDieAnywhereAndAreRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		v := thin("pvc-1", 4*mib)
		create(t, reopen(), v)
		must(t, os.WriteFile(imageOf(path, v), pattern(4*mib), 0o600))
		thickCopy := copyOf("pvc-3", v)
		thickCopy.Provisioning = v1alpha1.Thick
		for _, j := range []job{
			{Call: "snapshot", Volume: snapshot("snap-1", v), From: &v},
			{Call: "create", Volume: copyOf("pvc-2", v), From: by(v)},
			{Call: "create", Volume: thickCopy, From: by(v)},
		} {
			base := under(t, path)
			j.Path = path
			crashes(t, func() job { return j }, func(point string) {
				if exists(filepath.Dir(placeOf(path, j.Volume))) && !strings.HasPrefix(point, "replace") {
					t.Errorf("died at %q: it is in its place before it was renamed", point)
				}
				p := reopen()
				must(t, p.Reclaim(t.Context()))
				again(t, p, j)
				if content(t, imageOf(path, v)) != content(t, placeOf(path, j.Volume)) {
					t.Errorf("died at %q: %s holds other bytes than %s", point, j.Volume.ID, v.ID)
				}
				remove(t, p, j.Volume)
				if after := under(t, path); after != base {
					t.Fatalf("died at %q, left behind:\n%s\nwas\n%s", point, after, base)
				}
			})
			remove(t, reopen(), j.Volume)
		}
	})
}

func again(t *testing.T, p datastore.Pool, j job) {
	t.Helper()
	if j.Call == "snapshot" {
		take(t, p, *j.From, j.Volume)
		return
	}
	checkMade(t, j.Path, j.Volume, restore(t, p, j.Volume, *j.From))
}

// Wherever a copy of a btrfs dies, its origin and what is made in the end have each a UUID of its own.
func TestACopyOfBtrfsDiesAnywhereAndIsRepeated(t *testing.T) {
	path := disk(t, "btrfs", gib)
	p := newPool(t, path)
	v := formatted(thin("pvc-1", 256*mib), "btrfs")
	create(t, p, v)
	c := copyOf("pvc-2", v)
	crashes(t, func() job { return job{Call: "create", Path: path, Volume: c, From: by(v)} }, func(string) {
		p := newPool(t, path)
		checkMade(t, path, c, restore(t, p, c, v))
		remove(t, p, c)
	})
	dir := mountVolume(t, attached(t, p, v), "btrfs")
	twin := mountVolume(t, attached(t, p, c), "btrfs")
	put(t, "mine", dir, "file")
	if exists(twin, "file") {
		t.Error("they are one file system")
	}
	unmount(t, dir)
	unmount(t, twin)
}

// What is left of a copy that nobody repeats goes when its volume is deleted.
func TestCopiesDieAnywhereAndAreDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		v := thin("pvc-1", 8*mib)
		create(t, reopen(), v)
		must(t, os.WriteFile(imageOf(path, v), pattern(8*mib), 0o600))
		base := under(t, path)
		for _, j := range []job{
			{Call: "snapshot", Volume: snapshot("snap-1", v), From: &v},
			{Call: "create", Volume: copyOf("pvc-2", thick("", 8*mib)), From: by(v)},
		} {
			j.Path = path
			crashes(t, func() job { return j }, func(point string) {
				p := reopen()
				must(t, p.Reclaim(t.Context()))
				remove(t, p, j.Volume)
				if after := under(t, path); after != base {
					t.Fatalf("died at %q, left behind:\n%s", point, after)
				}
			})
			remove(t, reopen(), j.Volume)
		}
	})
}

func TestALongCopyDiesAnywhereAndGoesOn(t *testing.T) {
	path := disk(t, "ext4", gib)
	p := newPool(t, path)
	v, c := thin("pvc-1", gib/2), copyOf("pvc-2", thin("", gib/2))
	create(t, p, v)
	big(t, path, v)
	base := under(t, path)
	var wentOn int
	crashes(t, func() job { return job{Call: "create", Path: path, Volume: c, From: by(v)} }, func(point string) {
		p := newPool(t, path)
		first := int64(-1)
		_, err := p.Create(t.Context(), c, by(v), func(done, _ int64) {
			if first < 0 {
				first = done
			}
		})
		must(t, err)
		if first > 0 {
			wentOn++
		}
		run(t, "cmp", imageOf(path, v), imageOf(path, c))
		remove(t, p, c)
		if after := under(t, path); after != base {
			t.Fatalf("died at %q, left behind:\n%s", point, after)
		}
	})
	if wentOn < 4 {
		t.Errorf("it went on %d times", wentOn)
	}
}

func TestDisposalsDieAnywhereAndAreRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		for _, policy := range []v1alpha1.DeletePolicy{v1alpha1.RetainData, v1alpha1.ArchiveData} {
			v := thin("pvc-1", mib)
			d := datastore.Disposal{Policy: policy}
			check := func(point string) {
				t.Helper()
				must(t, reopen().Delete(t.Context(), v, d))
				must(t, reopen().Reclaim(t.Context()))
				got := listed(t, reopen())
				if len(got) != 1 {
					t.Fatalf("died at %q, listed %+v", point, got)
				}
				for location, f := range got {
					want := datastore.FoundRetained
					if policy == v1alpha1.ArchiveData {
						want = datastore.FoundArchived
					}
					if f.State != want || f.Volume.UID != v.UID || content(t, path, location, "disk.img") != string(pattern(mib)) {
						t.Errorf("died at %q: %s is %+v", point, location, f)
					}
					must(t, os.RemoveAll(filepath.Join(path, location)))
				}
			}
			crashes(t, func() job {
				must(t, os.RemoveAll(filepath.Join(path, "archived")))
				create(t, reopen(), v)
				must(t, os.WriteFile(imageOf(path, v), pattern(mib), 0o600))
				return job{Call: "delete", Path: path, Volume: v, Disposal: d}
			}, check)
			check("")
		}
	})
}

func TestAWipeDiesAnywhereAndNoneOfTheBytesStays(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			image, path := below(t, fs, 512*mib)
			p := newPool(t, path)
			v, s := thin("pvc-1", 256*mib), secret()
			base := under(t, path)
			d := wipe(v1alpha1.WipeZero)
			crashes(t, func() job {
				create(t, p, v)
				fill(t, imageOf(path, v), s, mib, 2*mib)
				fill(t, imageOf(path, v), s, 200*mib, 2*mib)
				return job{Call: "delete", Path: path, Volume: v, Disposal: d}
			}, func(point string) {
				p := newPool(t, path)
				must(t, p.Delete(t.Context(), v, d))
				must(t, p.Reclaim(t.Context()))
				if n := lies(t, image, path, s); n > 0 {
					t.Errorf("died at %q: it lies in %d places", point, n)
				}
				if after := under(t, path); after != base {
					t.Fatalf("died at %q, left behind:\n%s", point, after)
				}
			})
		})
	}
}
