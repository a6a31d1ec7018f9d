package directory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// limitedPool is a pool on a btrfs whose quotas are enabled.
func limitedPool(t *testing.T) (datastore.Pool, string) {
	t.Helper()
	path := disk(t, "btrfs", 512*mib)
	run(t, "btrfs", "quota", "enable", path)
	return newPool(t, path), path
}

// writeUntilFull writes a file until it has that many bytes or its limit is reached, and returns its length.
func writeUntilFull(t *testing.T, path string, bytes int64) int64 {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for done := int64(0); done < bytes; done += 256 << 10 {
		if _, err := f.Write(make([]byte, 256<<10)); errors.Is(err, unix.EDQUOT) {
			return done
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EDQUOT) {
		t.Fatal(err)
	}
	return bytes
}

func TestASubvolumeHasTheSizeOfItsVolume(t *testing.T) {
	p, path := limitedPool(t)
	status, err := p.Status(t.Context())
	must(t, err)
	if !slices.Contains(status.Features, v1alpha1.SubdirectoryQuota) {
		t.Errorf("features %v", status.Features)
	}
	v := limitedTree("v-1", 16*mib)
	create(t, p, v)
	if took := writeUntilFull(t, filepath.Join(dataOf(path, v), "data"), 32*mib); took > 16*mib || took < 14*mib {
		t.Errorf("%d bytes could be written", took)
	}
	_, err = p.Expand(t.Context(), limitedTree("v-1", 24*mib))
	must(t, err)
	if took := writeUntilFull(t, filepath.Join(dataOf(path, v), "more"), 32*mib); took < 6*mib || took > 10*mib {
		t.Errorf("after growing %d bytes more could be written", took)
	}
	run(t, "sync", "-f", path)
	status, err = p.Status(t.Context())
	must(t, err)
	if status.Own < 20*mib || status.Own > 25*mib {
		t.Errorf("own are %d bytes", status.Own)
	}
	// A limit that somebody lifted is there again with the next use.
	data, err := os.Open(dataOf(path, v))
	must(t, err)
	defer data.Close()
	must(t, btrfs.SetLimit(t.Context(), data, 0))
	openTree(t, p, v)
	if u, err := btrfs.UsageOf(data); err != nil || u.LimitBytes != 24*mib {
		t.Errorf("usage %+v, %v", u, err)
	}
	run(t, "btrfs", "quota", "disable", path)
	_, err = p.Open(t.Context(), v, false)
	wantKind(t, err, fault.Unavailable, "btrfs quota enable "+path)
}

func TestSubvolumesAreSnapshotAndCopiedWhileTheyAreInUse(t *testing.T) {
	p, path := limitedPool(t)
	v := limitedTree("v-1", 16*mib)
	create(t, p, v)
	put(t, "old", dataOf(path, v), "file")
	busy, err := os.Open(filepath.Join(dataOf(path, v), "file"))
	must(t, err)
	defer busy.Close()
	writeUntilFull(t, filepath.Join(dataOf(path, v), "just written"), 4*mib)
	if found, err := p.Find(t.Context(), v); err != nil || found.Promised < 4*mib {
		t.Errorf("a snapshot would promise %d bytes, %v", found.Promised, err)
	}
	writeUntilFull(t, filepath.Join(dataOf(path, v), "even later"), 4*mib)
	s := snapshotOfTree(v, "s-1")
	made, err := p.Snapshot(t.Context(), v, s, func(_, _ int64) { t.Error("what is whole at once tells its progress") })
	must(t, err)
	if again, err := p.Snapshot(t.Context(), v, s, nil); err != nil || again != made || made.Bytes != 16*mib || made.TakenAt.IsZero() || made.Promised < 8*mib || made.Promised > 9*mib {
		t.Errorf("made %+v, again %+v, %v", made, again, err)
	}
	put(t, "new", dataOf(path, v), "file")
	if err := os.WriteFile(filepath.Join(dataOf(path, s), "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a snapshot was written to: %v", err)
	}
	restored, clone := limitedTree("v-2", 32*mib), limitedTree("v-3", 16*mib)
	_, err = p.Create(t.Context(), restored, &s, nil)
	must(t, err)
	_, err = p.Create(t.Context(), clone, &v, nil)
	must(t, err)
	must(t, p.Delete(t.Context(), s, datastore.Disposal{}))
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Reclaim(t.Context()))
	if content(t, dataOf(path, restored), "file") != "old" || content(t, dataOf(path, clone), "file") != "new" {
		t.Error("a copy holds something else")
	}
	if took := writeUntilFull(t, filepath.Join(dataOf(path, restored), "data"), 64*mib); took > 24*mib || took < 20*mib {
		t.Errorf("the larger copy took %d bytes", took)
	}
	small := limitedTree("v-4", 16*mib)
	_, err = p.Create(t.Context(), small, &restored, nil)
	wantKind(t, err, fault.OutOfRange)
}

func TestACopyOfALimitedSubvolumeIsLimitedAsItIsToBe(t *testing.T) {
	p, path := limitedPool(t)
	v := limitedTree("v-1", 4*mib)
	create(t, p, v)
	s := snapshotOfTree(v, "s-1")
	_, err := p.Snapshot(t.Context(), v, s, nil)
	must(t, err)
	for name, c := range map[string]struct {
		from datastore.Volume
		copy datastore.Volume
		want int64
	}{
		"a larger one of a volume":        {v, limitedTree("v-2", 8*mib), 8 * mib},
		"one without limit of a volume":   {v, tree("v-3", 4*mib), 0},
		"one without limit of a snapshot": {s, tree("v-4", 4*mib), 0},
	} {
		_, err := p.Create(t.Context(), c.copy, &c.from, nil)
		must(t, err)
		data, err := os.Open(dataOf(path, c.copy))
		must(t, err)
		if u, err := btrfs.UsageOf(data); err != nil || u.LimitBytes != c.want {
			t.Errorf("%s: %+v, %v, want a limit of %d", name, u, err, c.want)
		}
		must(t, data.Close())
	}
}

// A process dies at each step of making, copying and removing: the call that comes again makes it whole, and all of it
// can be removed.
func TestSubdirectoriesSurviveDeathAtEachStep(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 512*mib)
			shape := tree
			if fs == "btrfs" {
				run(t, "btrfs", "quota", "enable", path)
				shape = limitedTree
			}
			p := newPool(t, path)
			before := under(t, path)
			v := shape("v-1", mib)
			dying(t, func(ctx context.Context) {
				_, err := newPool(t, path).Create(ctx, v, nil, nil)
				must(t, err)
			})
			put(t, "kept", dataOf(path, v), "d/file")
			all := []datastore.Volume{v}
			if fs == "btrfs" {
				s, clone := snapshotOfTree(v, "s-1"), shape("v-2", mib)
				dying(t, func(ctx context.Context) {
					_, err := newPool(t, path).Snapshot(ctx, v, s, nil)
					must(t, err)
				})
				dying(t, func(ctx context.Context) {
					_, err := newPool(t, path).Create(ctx, clone, &s, nil)
					must(t, err)
				})
				if content(t, dataOf(path, clone), "d/file") != "kept" {
					t.Error("the copy holds something else")
				}
				all = append(all, s, clone)
			}
			dying(t, func(ctx context.Context) {
				p := newPool(t, path)
				for _, v := range all {
					must(t, p.Delete(ctx, v, datastore.Disposal{}))
				}
				must(t, p.Reclaim(ctx))
			})
			must(t, p.Reclaim(t.Context()))
			if after := under(t, path); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// dying does work that ends before its first step, then before its second, and so on, as if the process died there,
// until it is done.
func dying(t *testing.T, work func(context.Context)) {
	t.Helper()
	type death struct{}
	for n, done := 1, false; !done; n++ {
		steps := 0
		ctx := step.WithHook(t.Context(), func(string, string) {
			if steps++; steps == n {
				panic(death{})
			}
		})
		func() {
			defer func() {
				if r := recover(); r != nil && r != (death{}) {
					panic(r)
				}
			}()
			work(ctx)
			done = true
		}()
	}
}

// A user may make subvolumes in his volume: no copy leaves out what is in them, and what they take is seen.
func TestASubvolumeThatHoldsOthersIsNotCopiedInPart(t *testing.T) {
	p, path := limitedPool(t)
	v := limitedTree("v-1", 16*mib)
	create(t, p, v)
	run(t, "btrfs", "subvolume", "create", filepath.Join(dataOf(path, v), "nested"))
	writeUntilFull(t, filepath.Join(dataOf(path, v), "nested", "data"), 32*mib)
	run(t, "sync", "-f", path)
	before := under(t, path)
	_, err := p.Snapshot(t.Context(), v, snapshotOfTree(v, "s-1"), nil)
	wantKind(t, err, fault.Precondition, "nested")
	_, err = p.Create(t.Context(), limitedTree("v-2", 16*mib), &v, nil)
	wantKind(t, err, fault.Precondition, "nested")
	if after := under(t, path); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	found, err := p.List(t.Context())
	must(t, err)
	if len(found) != 1 || len(found[0].Problems) != 1 || found[0].Problems[0].Reason != "SizeNotEnforced" || found[0].Allocated < 32*mib {
		t.Errorf("found %+v", found)
	}
	status, err := p.Status(t.Context())
	must(t, err)
	if status.Own > 16*mib { // the rest was promised to nobody
		t.Errorf("own are %d bytes", status.Own)
	}
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Reclaim(t.Context()))
}
