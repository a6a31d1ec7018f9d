package directory_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// snapshot of a volume.
func snapshot(id string, of datastore.Volume) datastore.Volume {
	s := of
	s.ID, s.Name, s.UID = id, id, uuid.NewSHA1(uuid.Nil, []byte("snapshot "+id)).String()
	s.Snapshot, s.SourceID = true, of.ID
	return s
}

// copyOf is a volume like its source, as a controller asks for it.
func copyOf(id string, source datastore.Volume) datastore.Volume {
	v := source
	v.ID, v.Name, v.UID = id, id, uuid.NewSHA1(uuid.Nil, []byte(id)).String()
	v.Snapshot, v.SourceID = false, ""
	if v.Filesystem != nil && v.Filesystem.Type == "btrfs" {
		v.Filesystem = &v1alpha1.FilesystemSpec{Type: "btrfs", UUID: uuid.NewString()}
	}
	return v
}

// by is the source as a record names it.
func by(v datastore.Volume) *datastore.Volume {
	return &datastore.Volume{ID: v.ID, UID: v.UID, ClusterID: v.ClusterID, Snapshot: v.Snapshot}
}

func take(t testing.TB, p datastore.Pool, of, snap datastore.Volume) datastore.Made {
	t.Helper()
	made, err := p.Snapshot(t.Context(), of, snap, nil)
	must(t, err)
	return made
}

func restore(t testing.TB, p datastore.Pool, v, from datastore.Volume) datastore.Made {
	t.Helper()
	made, err := p.Create(t.Context(), v, by(from), nil)
	must(t, err)
	return made
}

// snapshotOf is the path of a snapshot's image.
func snapshotOf(path string, v datastore.Volume) string {
	return filepath.Join(path, "snapshots", v.BackendName(), "disk.img")
}

// shares tells whether a pool on that file system copies instantly.
func shares(fs string) bool { return fs != "ext4" }

// attached opens a volume for as long as the test lasts, or until it is closed.
func attached(t testing.TB, p datastore.Pool, v datastore.Volume) string {
	t.Helper()
	opened, err := p.Open(t.Context(), v, false)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background(), v)) })
	return opened.Device
}

// mountVolume mounts a volume's device as a host does.
func mountVolume(t testing.TB, device, fs string) string {
	t.Helper()
	dir := t.TempDir()
	options := ""
	if fs == "xfs" {
		options = "nouuid"
	}
	if err := unix.Mount(device, dir, fs, 0, options); err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	t.Cleanup(func() {
		if mounted(dir) {
			must(t, unix.Unmount(dir, 0))
		}
	})
	return dir
}

func TestFeaturesAreFoundByTrying(t *testing.T) {
	for name, c := range map[string]struct {
		fs   string
		mkfs []string
		want bool
	}{
		"ext4":                {"ext4", nil, false},
		"xfs":                 {"xfs", nil, true},
		"xfs without reflink": {"xfs", []string{"-m", "reflink=0"}, false},
		"btrfs":               {"btrfs", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := newPool(t, disk(t, c.fs, gib, c.mkfs...)).Status(t.Context())
			must(t, err)
			if got := slices.Contains(status.Features, v1alpha1.InstantCopies); got != c.want || len(status.Findings) > 0 {
				t.Errorf("instant copies: %t, want %t; findings %v", got, c.want, status.Findings)
			}
		})
	}
}

// Each file system on each pool: a volume, its snapshot, a clone of the volume, a larger volume from the snapshot
// and a copy of that copy, all of them mounted at once.
func TestCopiesMountBesideTheirOrigin(t *testing.T) {
	for _, pool := range filesystems() {
		path := disk(t, pool, 4*gib)
		p := newPool(t, path)
		for _, fs := range filesystems() {
			for _, provision := range []func(string, int64) datastore.Volume{thin, thick} {
				v := formatted(provision("pvc-"+fs, 320*mib), fs)
				if v.Provisioning == v1alpha1.Thick && fs != pool { // it is about space, which is slow to take
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", pool, v.Provisioning, fs), func(t *testing.T) { copiesMount(t, p, path, v) })
			}
		}
	}
}

func copiesMount(t *testing.T, p datastore.Pool, path string, v datastore.Volume) {
	fs := v.Filesystem.Type
	create(t, p, v)
	dir := mountVolume(t, attached(t, p, v), fs)
	put(t, string(pattern(5*mib)), dir, "data")
	unmount(t, dir)
	must(t, p.Close(t.Context(), v))
	snap := snapshot("snap-1", v)
	made := take(t, p, v, snap)
	if made.Bytes != v.Bytes || made.Promised < 5*mib || made.Promised > v.Bytes+mib || made.TakenAt.IsZero() || made.Location != "snapshots/"+snap.BackendName() || made.Identity != snap.UID {
		t.Errorf("snapshot made as %+v", made)
	}
	found, err := p.Find(t.Context(), snap)
	if err != nil || found != made {
		t.Errorf("found %+v, %v; made %+v", found, err, made)
	}
	clone := copyOf("pvc-clone", v)
	restore(t, p, clone, v)
	larger := copyOf("pvc-larger", v)
	larger.Bytes = 512 * mib
	if made := restore(t, p, larger, snap); made.Bytes != larger.Bytes {
		t.Errorf("restored with %d bytes", made.Bytes)
	}
	again := copyOf("pvc-again", clone)
	restore(t, p, again, clone)
	all := []datastore.Volume{v, clone, larger, again}
	var dirs []string
	for i, c := range all {
		checkMade(t, path, c, create(t, p, c))
		dirs = append(dirs, mountVolume(t, attached(t, p, c), fs))
		if content(t, dirs[i], "data") != string(pattern(5*mib)) {
			t.Errorf("%s holds other data", c.ID)
		}
		put(t, c.ID, dirs[i], "mine")
	}
	for i, c := range all {
		if got := content(t, dirs[i], "mine"); got != c.ID {
			t.Errorf("%s holds what was written to %s", c.ID, got)
		}
		unmount(t, dirs[i])
		must(t, p.Close(t.Context(), c))
		run(t, "sync", "-f", path)
	}
	for _, c := range append(all, snap) {
		remove(t, p, c)
	}
}

func TestASnapshotOfAVolumeInUseHoldsOneInstant(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		p := reopen()
		v := thin("pvc-1", 64*mib)
		create(t, p, v)
		device := attached(t, p, v)
		must(t, os.WriteFile(device, pattern(8*mib), 0))
		base := under(t, path)
		made, err := p.Snapshot(t.Context(), v, snapshot("snap-1", v), nil)
		if !shares(fs) {
			wantKind(t, err, fault.Precondition, "pvc-1", "in use", "reflink", "btrfs", path)
			_, err = p.Create(t.Context(), copyOf("pvc-2", v), by(v), nil)
			wantKind(t, err, fault.Precondition, "pvc-1", "in use")
			if after := under(t, path); after != base {
				t.Errorf("left behind:\n%s", after)
			}
			return
		}
		must(t, err)
		must(t, os.WriteFile(device, make([]byte, 8*mib), 0))
		thickCopy := copyOf("pvc-thick", thick("", v.Bytes))
		restore(t, p, thickCopy, v) // of what is there now, in use or not
		if got := content(t, snapshotOf(path, snapshot("snap-1", v)))[:8*mib]; got != string(pattern(8*mib)) || made.Bytes != v.Bytes {
			t.Error("it doesn't hold what the volume held")
		}
		if got := content(t, imageOf(path, thickCopy)); got != string(make([]byte, v.Bytes)) || allocated(t, imageOf(path, thickCopy)) < v.Bytes {
			t.Errorf("the thick copy holds other data or lacks space")
		}
		if exists(path, "volumes", thickCopy.BackendName(), "origin.img") {
			t.Error("what it was copied from is still there")
		}
	})
}

func TestCopiesOfAThickVolumeHaveTheirOwnSpace(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		p := reopen()
		v := thick("pvc-1", 64*mib)
		create(t, p, v)
		must(t, os.WriteFile(imageOf(path, v), pattern(v.Bytes), 0o600))
		snap := snapshot("snap-1", v)
		take(t, p, v, snap)
		c := copyOf("pvc-2", v)
		c.Bytes = 128 * mib
		restore(t, p, c, snap)
		if content(t, imageOf(path, c))[:v.Bytes] != string(pattern(v.Bytes)) {
			t.Error("it holds other data")
		}
		if out := run(t, "filefrag", "-v", imageOf(path, c)); allocated(t, imageOf(path, c)) < c.Bytes || bytesContain(out, "shared") {
			t.Errorf("it lacks space of its own:\n%s", out)
		}
		if fs == "btrfs" && run(t, "lsattr", imageOf(path, c))[15] != 'C' {
			t.Error("it isn't overwritten in place")
		}
		remove(t, p, v)
		if content(t, snapshotOf(path, snap)) != string(pattern(v.Bytes)) {
			t.Error("the snapshot changed with its volume")
		}
	})
}

func bytesContain(s, what string) bool { return strings.Contains(s, what) }

func TestCopyRefusesWhatCanNeverBeUsed(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := formatted(thin("pvc-1", 64*mib), "ext4")
	create(t, p, v)
	snap := snapshot("snap-1", v)
	take(t, p, v, snap)
	base := under(t, path)
	for name, c := range map[string]struct {
		change func(v, from *datastore.Volume)
		kind   fault.Kind
	}{
		"a smaller copy":            {func(v, _ *datastore.Volume) { v.Bytes = 32 * mib }, fault.OutOfRange},
		"another file system":       {func(v, _ *datastore.Volume) { *v = formatted(*v, "xfs"); v.Bytes = gib }, fault.Invalid},
		"raw from a file system":    {func(v, _ *datastore.Volume) { v.Filesystem, v.Access = nil, v1alpha1.Block }, fault.Invalid},
		"another format":            {func(v, _ *datastore.Volume) { v.Format = "Pyramid" }, fault.Invalid},
		"a source that is gone":     {func(_, from *datastore.Volume) { from.ID = "pvc-9" }, fault.NotFound},
		"a source of another UID":   {func(_, from *datastore.Volume) { from.UID = uuid.NewString() }, fault.NotFound},
		"a snapshot for a volume":   {func(_, from *datastore.Volume) { from.Snapshot = false }, fault.NotFound},
		"a source that climbs":      {func(_, from *datastore.Volume) { from.ID = "../x" }, fault.Invalid},
		"another cluster's source":  {func(_, from *datastore.Volume) { from.ClusterID = "cluster-b" }, fault.Precondition},
		"a snapshot as if a volume": {func(v, _ *datastore.Volume) { v.ID = "" }, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			copied, from := copyOf("pvc-2", v), *by(snap)
			c.change(&copied, &from)
			_, err := p.Create(t.Context(), copied, &from, nil)
			wantKind(t, err, c.kind)
			if after := under(t, path); after != base {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
	_, err := p.Snapshot(t.Context(), snap, snapshot("snap-2", v), nil)
	wantKind(t, err, fault.Invalid)
	_, err = p.Open(t.Context(), snap, true)
	wantKind(t, err, fault.Invalid, "never opened")
	_, err = p.Expand(t.Context(), snap)
	wantKind(t, err, fault.Invalid, "never grows")
}

func TestACopyWithoutSpaceLeavesNothing(t *testing.T) {
	path := disk(t, "ext4", 512*mib)
	p := newPool(t, path)
	v := thin("pvc-1", 400*mib)
	create(t, p, v)
	f, err := os.OpenFile(imageOf(path, v), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(pattern(256*mib), 0)
	must(t, errors.Join(err, f.Close()))
	base, before := under(t, path), used(t, p)
	_, err = p.Snapshot(t.Context(), v, snapshot("snap-1", v), nil)
	wantKind(t, err, fault.Exhausted, "snap-1")
	// Others take the space while it is copied.
	must(t, os.Truncate(imageOf(path, v), 200*mib))
	must(t, os.Truncate(imageOf(path, v), 400*mib))
	var filled bool
	_, err = p.Snapshot(t.Context(), v, snapshot("snap-1", v), func(done, _ int64) {
		if done > 64*mib && !filled {
			filled = true
			run(t, "fallocate", "-l", fmt.Sprint(150*mib), filepath.Join(path, "volumes", "full"))
		}
	})
	wantKind(t, err, fault.Exhausted, "snap-1")
	must(t, os.Remove(filepath.Join(path, "volumes", "full")))
	if after := under(t, path); after != base || !filled {
		t.Errorf("left behind:\n%s\nwas\n%s", after, base)
	}
	if after := used(t, p); after > before+mib {
		t.Errorf("%d bytes were in use, now %d", before, after)
	}
}

// big writes data in three places, in so many bytes that a copy is made in several pieces.
func big(t *testing.T, path string, v datastore.Volume) {
	t.Helper()
	f, err := os.OpenFile(imageOf(path, v), os.O_WRONLY, 0)
	must(t, err)
	for i := range int64(3) {
		_, err = f.WriteAt(pattern(50*mib), i*160*mib+i)
		must(t, err)
	}
	must(t, errors.Join(f.Sync(), f.Close()))
}

func TestACopyGoesOnWhereItWas(t *testing.T) {
	for _, provision := range []func(string, int64) datastore.Volume{thin, thick} {
		path := disk(t, "ext4", 2*gib)
		p := newPool(t, path)
		v := provision("pvc-1", gib/2)
		v.Provisioning = v1alpha1.Thin
		create(t, p, v)
		big(t, path, v)
		c := copyOf("pvc-2", provision("", gib/2))
		t.Run(string(c.Provisioning), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var last int64
			_, err := p.Create(ctx, c, by(v), func(done, total int64) {
				if done < last || total < 150*mib || done > total {
					t.Fatalf("told %d of %d, before %d", done, total, last)
				}
				if last = done; done >= 100*mib {
					cancel()
				}
			})
			wantKind(t, err, fault.Unavailable, "pvc-2")
			put(t, "", path, ".datastore-csi/tmp", c.BackendName(), "meta.json") // a power cut leaves half a mark
			must(t, p.Reclaim(t.Context()))                                      // which is no reason to begin again
			first := int64(-1)
			_, err = newPool(t, path).Create(t.Context(), c, by(v), func(done, total int64) {
				if first < 0 {
					first = done
				}
				last = done
			})
			must(t, err)
			if first < 64*mib || last < 150*mib {
				t.Errorf("it went on from %d to %d bytes", first, last)
			}
			run(t, "cmp", imageOf(path, v), imageOf(path, c))
			if names, err := os.ReadDir(filepath.Dir(imageOf(path, c))); err != nil || len(names) != 2 {
				t.Errorf("there is %v, %v", names, err)
			}
			remove(t, p, c)
		})
	}
}

func TestACopyBeginsAgainWhenItsSourceWasChanged(t *testing.T) {
	path := disk(t, "ext4", gib)
	p := newPool(t, path)
	v := thin("pvc-1", gib/2)
	create(t, p, v)
	big(t, path, v)
	for name, change := range map[string]func(t *testing.T){
		"written": func(t *testing.T) {
			run(t, "dd", "if=/dev/urandom", "of="+imageOf(path, v), "bs=1M", "count=1", "conv=notrunc")
		},
		"written, and the clock put back": func(t *testing.T) {
			device := attached(t, p, v)
			info, err := os.Stat(imageOf(path, v))
			must(t, err)
			run(t, "dd", "if=/dev/urandom", "of="+device, "bs=1M", "count=1", "conv=notrunc,fsync")
			must(t, p.Close(t.Context(), v))
			must(t, os.Chtimes(imageOf(path, v), info.ModTime(), info.ModTime()))
		},
		"discarded": func(t *testing.T) { run(t, "fallocate", "-p", "-o", "0", "-l", "1M", imageOf(path, v)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := copyOf("pvc-2", v)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := p.Create(ctx, c, by(v), func(done, _ int64) {
				if done >= 100*mib {
					cancel()
				}
			})
			wantKind(t, err, fault.Unavailable)
			change(t)
			first := int64(-1)
			_, err = p.Create(t.Context(), c, by(v), func(done, _ int64) {
				if first < 0 {
					first = done
				}
			})
			must(t, err)
			if first != 0 {
				t.Errorf("it went on from byte %d", first)
			}
			run(t, "cmp", imageOf(path, v), imageOf(path, c))
			remove(t, p, c)
		})
	}
}

func TestACopyEndsWhenItsSourceIsWrittenTo(t *testing.T) {
	path := disk(t, "ext4", gib)
	p := newPool(t, path)
	v := thin("pvc-1", gib/2)
	create(t, p, v)
	big(t, path, v)
	base := under(t, path)
	var once bool
	_, err := p.Create(t.Context(), copyOf("pvc-2", v), by(v), func(int64, int64) {
		if !once {
			once = true
			run(t, "dd", "if=/dev/urandom", "of="+imageOf(path, v), "bs=1M", "count=1", "conv=notrunc")
		}
	})
	wantKind(t, err, fault.Precondition, "changed", "pvc-1")
	if after := under(t, path); after != base {
		t.Errorf("left behind:\n%s", after)
	}
}

func TestAnAbandonedCopyIsRemoved(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, c datastore.Config, v datastore.Volume){
		"its volume is deleted": func(t *testing.T, c datastore.Config, v datastore.Volume) { remove(t, open(t, c), v) },
		"nobody goes on for days": func(t *testing.T, c datastore.Config, _ datastore.Volume) {
			c.Tools.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
			must(t, open(t, c).Reclaim(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := disk(t, "ext4", gib)
			c := config(t, path)
			p := open(t, c)
			v := thin("pvc-1", gib/2)
			create(t, p, v)
			big(t, path, v)
			base := under(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := p.Create(ctx, copyOf("pvc-2", v), by(v), func(done, _ int64) {
				if done >= 100*mib {
					cancel()
				}
			})
			wantKind(t, err, fault.Unavailable)
			c.Claims = &datastore.Claims{}
			end(t, c, copyOf("pvc-2", v))
			if after := under(t, path); after != base {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}
