package directory_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestDeleteRemovesExactlyOneVolume(t *testing.T) {
	path := t.TempDir()
	c := config(t, path)
	c.Datastore.Spec.Directory.Initialize = true
	put(t, "mine", path, "thesis.txt")
	put(t, "mine", path, "volumes/foreign/disk.img")
	p := open(t, c)
	v, twin := thin("pvc-1", mib), thin("pvc-1", mib)
	twin.UID = "99999999-0000-4000-8000-000000000000" // the same name, a later record
	create(t, p, twin)
	base := under(t, path)
	create(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	if exists(imageOf(path, v)) || !exists(path, ".datastore-csi/trash", v.BackendName(), "disk.img") {
		t.Error("it was not renamed into the trash")
	}
	must(t, p.Reclaim(t.Context()))
	must(t, p.Reclaim(t.Context()))
	if after := under(t, path); after != base {
		t.Errorf("now there is:\n%s\nwas:\n%s", after, base)
	}
}

func TestDeleteOfAVolumeThatCameAgain(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	for range 3 { // Create ran again behind a Delete, before anything was reclaimed
		create(t, p, v)
		must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	}
	must(t, p.Reclaim(t.Context()))
	if exists(path, ".datastore-csi/trash", v.BackendName()) {
		t.Error("the trash is not empty")
	}
}

func TestDeleteWhenTheImageIsGoneAlready(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, os.Remove(imageOf(path, v)))
	must(t, p.Close(t.Context(), v))
	remove(t, p, v)
}

func TestDeleteRefusesHostileNames(t *testing.T) {
	path := t.TempDir()
	victim := put(t, "x", path, "victim/disk.img")
	pool := filepath.Join(path, "pool")
	must(t, os.Mkdir(pool, 0o755))
	p := newPool(t, pool)
	for _, id := range []string{"", ".", "..", "../victim", "../../victim", "/", victim, "%2e%2e", "a\x00", strings.Repeat("x", 4096), "ünï", ".datastore-csi", "a b", "-x"} {
		v := thin("pvc-1", mib)
		v.ID = id
		for op, err := range everyCall(t, p, v) {
			if op != "status" && op != "reclaim" {
				wantKind(t, err, fault.Invalid)
			}
		}
	}
	if content(t, victim) != "x" {
		t.Error("a file outside was changed")
	}
}

func TestDeleteNeverReachesThroughLinksAndMounts(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, path, dir, outside string){
		"the volume is a link": func(t *testing.T, _, dir, outside string) {
			must(t, os.RemoveAll(dir))
			must(t, os.Symlink(outside, dir))
		},
		"volumes/ is a link": func(t *testing.T, path, dir, outside string) {
			must(t, os.Rename(filepath.Join(path, "volumes"), filepath.Join(outside, "volumes")))
			must(t, os.Symlink(filepath.Join(outside, "volumes"), filepath.Join(path, "volumes")))
		},
		"the volume is a mount point": func(t *testing.T, _, dir, outside string) {
			put(t, content(t, dir, "meta.json"), outside, "meta.json")
			must(t, unix.Mount(outside, dir, "", unix.MS_BIND, ""))
			t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, outside := t.TempDir(), t.TempDir()
			put(t, "secret", outside, "disk.img")
			p := newPool(t, path)
			v := thin("pvc-1", mib)
			create(t, p, v)
			meddle(t, path, filepath.Dir(imageOf(path, v)), outside)
			wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, "pvc-1")
			must(t, p.Reclaim(t.Context()))
			if content(t, outside, "disk.img") != "secret" {
				t.Error("a file outside was changed")
			}
		})
	}
}

func TestReclaimNeverReachesThroughLinksAndMounts(t *testing.T) {
	for _, where := range []string{"tmp", "trash"} {
		t.Run(where, func(t *testing.T) {
			path, outside := t.TempDir(), t.TempDir()
			put(t, "secret", outside, "disk.img")
			p := newPool(t, path)
			own := filepath.Join(path, ".datastore-csi", where)
			must(t, os.Symlink(outside, filepath.Join(own, "link")))
			must(t, os.MkdirAll(filepath.Join(own, "holder/mount"), 0o755))
			put(t, "x", own, "old/disk.img")
			must(t, os.MkdirAll(filepath.Join(own, "images"), 0o755))
			must(t, os.Symlink(filepath.Join(outside, "disk.img"), filepath.Join(own, "images/disk.img")))
			must(t, unix.Mount(outside, filepath.Join(own, "holder/mount"), "", unix.MS_BIND, ""))
			mount := filepath.Join(own, "holder/mount")
			t.Cleanup(func() {
				if where == "tmp" { // the mount moved with the directory that holds it
					mount = filepath.Join(path, ".datastore-csi/trash/holder.unfinished/mount")
				}
				must(t, unix.Unmount(mount, 0))
			})
			wantKind(t, p.Reclaim(t.Context()), fault.Precondition, "holder", "fast")
			if content(t, outside, "disk.img") != "secret" {
				t.Error("a file outside was changed")
			}
			if exists(own, "old") || exists(own, "link") || exists(own, "images") {
				t.Error("one entry that can't be removed keeps the others")
			}
		})
	}
}

func TestReclaimLeavesAnImageWithAnotherNameItsData(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, os.WriteFile(imageOf(path, v), []byte("kept"), 0o600))
	must(t, os.Truncate(imageOf(path, v), mib))
	must(t, os.Link(imageOf(path, v), filepath.Join(path, "kept.img")))
	remove(t, p, v)
	if got := content(t, path, "kept.img"); int64(len(got)) != mib || !strings.HasPrefix(got, "kept") {
		t.Errorf("the administrator's link holds %d bytes", len(got))
	}
}

func TestAReaderOfTheImageKeepsItsData(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, os.WriteFile(imageOf(path, v), pattern(mib), 0o600))
	backup, err := os.Open(imageOf(path, v))
	must(t, err)
	defer backup.Close()
	remove(t, p, v)
	got, err := io.ReadAll(backup)
	if err != nil || string(got) != string(pattern(mib)) {
		t.Errorf("a backup that runs reads %d bytes, %v", len(got), err)
	}
}

func TestReclaimLeavesWhatSomebodyAttachedInTheTrash(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	device := run(t, "losetup", "--find", "--show", filepath.Join(path, ".datastore-csi/trash", v.BackendName(), "disk.img"))
	t.Cleanup(func() { run(t, "losetup", "-d", device) })
	wantKind(t, p.Reclaim(t.Context()), fault.Precondition, device, v.BackendName())
	if !exists(path, ".datastore-csi/trash", v.BackendName(), "disk.img") {
		t.Error("it is gone")
	}
}

func TestASecondClusterTouchesNothing(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	foreign := v
	foreign.ClusterID = "cluster-b"
	before := under(t, path)
	for op, err := range everyCall(t, p, foreign) {
		if op != "status" && op != "reclaim" {
			wantKind(t, err, fault.Precondition, "cluster-b")
		}
	}
	// A mark of another cluster in our own pool.
	meta := filepath.Join(filepath.Dir(imageOf(path, v)), "meta.json")
	var mark map[string]any
	must(t, json.Unmarshal([]byte(content(t, meta)), &mark))
	mark["cluster"] = "cluster-b"
	data, err := json.Marshal(mark)
	must(t, err)
	was := content(t, meta)
	put(t, string(data), meta)
	wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, "cluster-b", "cluster-a")
	put(t, was, meta)
	if after := under(t, path); after != before {
		t.Errorf("now there is:\n%s\nwas:\n%s", after, before)
	}
}

func TestStatusMeasures(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		p := reopen()
		before, err := p.Status(t.Context())
		must(t, err)
		if before.Total <= 0 || before.Total > gib || before.Free <= 0 || before.Own != 0 || before.Degraded || len(before.Findings) != 0 {
			t.Errorf("%+v", before)
		}
		v := thick("pvc-1", 128*mib)
		create(t, p, v)
		must(t, os.WriteFile(filepath.Join(path, "foreign"), pattern(32*mib), 0o600))
		put(t, "x", path, "volumes/foreign/disk.img/x")
		must(t, os.Symlink("/", filepath.Join(path, "volumes/link")))
		run(t, "sync", "-f", path)
		check := func(when string, own, ours int64) {
			t.Helper()
			s, err := p.Status(t.Context())
			must(t, err)
			if s.Own != own || s.Used-before.Used < ours+32*mib || s.Used-before.Used > ours+40*mib || s.Free > before.Free-ours-32*mib {
				t.Errorf("%s: before %+v, now %+v", when, before, s)
			}
		}
		check("made", 128*mib, 128*mib)
		must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
		check("in the trash, where it is promised to nobody", 0, 128*mib)
		must(t, p.Reclaim(t.Context()))
		run(t, "sync", "-f", path)
		check("gone", 0, 0)
	})
}

func TestStatusFindsWhatWantsAttention(t *testing.T) {
	for name, c := range map[string]struct{ path, reason string }{
		"few inodes": {disk(t, "ext4", 64*mib, "-N", "500"), "InodesLow"},
		"tmpfs":      {memory(t, 64*mib), "Volatile"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newPool(t, c.path).Status(t.Context())
			must(t, err)
			if len(s.Findings) != 1 || s.Findings[0].Reason != c.reason || !strings.Contains(s.Findings[0].Message, c.path) {
				t.Errorf("%+v", s.Findings)
			}
		})
	}
}
