package directory_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// clock is one that a test sets.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// ownOf returns Own when all was measured anew, and what the file system says is in use.
func ownOf(t testing.TB, p datastore.Pool, path string) (own, used int64) {
	t.Helper()
	run(t, "sync", "-f", path)
	s, err := p.Status(t.Context())
	must(t, err)
	return s.Own, s.Used
}

func TestOwnCountsSharedBlocksOnce(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 2*gib)
			c, watch := config(t, path), &clock{time.Now()}
			c.Tools.Now = func() time.Time { return watch.now }
			p := open(t, c)
			_, empty := ownOf(t, p, path)
			check := func(when string, want int64) {
				t.Helper()
				own, used := ownOf(t, p, path)
				if d := own - want; d < -mib || d > mib {
					t.Errorf("%s: own %d MiB, want %d", when, own/mib, want/mib)
				}
				if own > used-empty+mib {
					t.Errorf("%s: own %d MiB, in use are %d only", when, own/mib, (used-empty)/mib)
				}
			}
			v, other := thin("pvc-1", 256*mib), thin("pvc-9", 256*mib)
			create(t, p, v)
			create(t, p, other)
			fill(t, imageOf(path, v), secret(), 0, 128*mib)
			fill(t, imageOf(path, other), secret(), 0, 64*mib)
			check("one volume and a stranger", 192*mib)
			snap, twin := snapshot("snap-1", v), copyOf("pvc-2", v)
			take(t, p, v, snap)
			restore(t, p, twin, snap)
			watch.pass(time.Hour)
			check("a snapshot and a copy", 192*mib)
			fill(t, imageOf(path, twin), secret(), 128*mib, 32*mib) // new blocks are seen at once
			check("written where nothing was", 224*mib)
			fill(t, imageOf(path, twin), secret(), 0, 16*mib) // those in place of shared ones are not
			check("written to shared blocks", 224*mib)
			watch.pass(2 * time.Minute)
			check("measured again", 240*mib)
			must(t, p.Delete(t.Context(), snap, datastore.Disposal{}))
			watch.pass(time.Minute)
			check("the snapshot in the trash", 240*mib)
			must(t, p.Reclaim(t.Context()))
			watch.pass(time.Minute)
			check("the snapshot gone", 240*mib)
			must(t, p.Delete(t.Context(), twin, datastore.Disposal{Policy: v1alpha1.RetainData}))
			watch.pass(time.Minute)
			check("the copy retained", 192*mib)
			must(t, p.Delete(t.Context(), other, datastore.Disposal{Policy: v1alpha1.ArchiveData}))
			check("the stranger archived", 128*mib)
			remove(t, p, v)
			watch.pass(time.Minute)
			check("the volume gone", 0)
		})
	}
}

func TestOwnIsNeverTooMuchBetweenMeasurements(t *testing.T) {
	path := disk(t, "xfs", 2*gib)
	c, watch := config(t, path), &clock{time.Now()}
	c.Tools.Now = func() time.Time { return watch.now }
	p := open(t, c)
	_, empty := ownOf(t, p, path)
	check := func(when string, least int64) {
		t.Helper()
		if own, used := ownOf(t, p, path); own > used-empty+mib || own < least {
			t.Errorf("%s: own %d MiB, in use are %d, least is %d", when, own/mib, (used-empty)/mib, least/mib)
		}
	}
	v := thin("pvc-1", 256*mib)
	create(t, p, v)
	fill(t, imageOf(path, v), secret(), 0, 64*mib)
	snap, again := snapshot("snap-1", v), snapshot("snap-2", v)
	take(t, p, v, snap)
	check("a snapshot", 64*mib) // measured, and not again: no time passes
	take(t, p, v, again)
	check("a new member", 64*mib)
	fill(t, imageOf(path, v), secret(), 0, 32*mib)
	check("shared blocks written", 64*mib)
	must(t, os.Truncate(imageOf(path, v), 16*mib))
	must(t, os.Truncate(imageOf(path, v), 256*mib))
	check("blocks given back", 64*mib)
	remove(t, p, snap)
	check("a member gone", 64*mib)
	remove(t, p, again)
	remove(t, p, v)
	check("all gone", 0)
	create(t, p, v)
	check("made again", 0)
	watch.pass(time.Hour)
	check("measured again", 0)
}

// What is promised to nobody isn't the pool's own: its bytes would be promised again.
func TestOwnLeavesOutWhatIsPromisedToNobody(t *testing.T) {
	path := disk(t, "ext4", gib)
	p := newPool(t, path)
	for i, c := range map[string]func(t *testing.T, v datastore.Volume){
		"a folder copied by hand": func(t *testing.T, v datastore.Volume) {
			run(t, "mv", path+"/volumes/"+v.BackendName(), path+"/volumes/copy")
		},
		"a mark of another cluster": func(t *testing.T, v datastore.Volume) {
			mark := path + "/volumes/" + v.BackendName() + "/meta.json"
			put(t, strings.Replace(content(t, mark), cluster, "cluster-b", 1), mark)
		},
		"no mark": func(t *testing.T, v datastore.Volume) {
			must(t, os.Remove(path+"/volumes/"+v.BackendName()+"/meta.json"))
		},
		"a wipe that waits": func(t *testing.T, v datastore.Volume) {
			must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeZero)))
		},
		"half a volume that nobody makes": func(t *testing.T, v datastore.Volume) {
			run(t, "mv", path+"/volumes/"+v.BackendName(), path+"/.datastore-csi/tmp/")
		},
	} {
		t.Run(i, func(t *testing.T) {
			v := thick("pvc-1", 64*mib)
			create(t, p, v)
			if own, _ := ownOf(t, p, path); own != 64*mib {
				t.Errorf("made: own %d", own)
			}
			c(t, v)
			if own, _ := ownOf(t, p, path); own != 0 {
				t.Errorf("own %d", own)
			}
			run(t, "rm", "-rf", path+"/volumes/copy", path+"/volumes/"+v.BackendName())
			must(t, p.Reclaim(t.Context()))
		})
	}
}

// Many volumes are not looked at each time; what is taken out of use meanwhile is known all the same.
func TestOwnOfManyVolumesBetweenTwoLooks(t *testing.T) {
	path := memory(t, gib)
	c, watch := config(t, path), &clock{time.Now()}
	c.Tools.Now = func() time.Time { return watch.now }
	p := open(t, c)
	for i := range 1001 {
		create(t, p, thin(fmt.Sprintf("pvc-%d", i), mib))
	}
	v := thick("pvc-thick", 64*mib)
	create(t, p, v)
	others := func() int64 {
		s, err := p.Status(t.Context())
		must(t, err)
		return s.Used - s.Own
	}
	was := others()
	put(t, string(pattern(8*mib)), path, "volumes", "pvc-written") // nobody looks: taken for the pool's own
	if got := others(); got != was {
		t.Errorf("others have %d, had %d", got, was)
	}
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	if got := others(); got < was+64*mib {
		t.Errorf("a volume in the trash is promised again: others have %d, had %d", got, was)
	}
	watch.pass(time.Second)
	if got := others(); got < was+72*mib || got > was+73*mib {
		t.Errorf("others have %d, had %d", got, was)
	}
}

// BenchmarkStatusOfFamilies measures a pool of many volumes, each with a snapshot and a copy.
func BenchmarkStatusOfFamilies(b *testing.B) {
	path := disk(b, "xfs", 2*gib)
	p := newPool(b, path)
	for i := range 500 {
		v := thin(fmt.Sprintf("pvc-%d", i), mib)
		create(b, p, v)
		fill(b, imageOf(path, v), secret(), 0, 64<<10)
		snap := snapshot("snap-"+v.ID, v)
		take(b, p, v, snap)
		restore(b, p, copyOf("copy-"+v.ID, v), snap)
	}
	for b.Loop() {
		_, err := p.Status(b.Context())
		must(b, err)
	}
}
