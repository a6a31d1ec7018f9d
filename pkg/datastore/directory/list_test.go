package directory_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// listed returns what a pool lists, by location.
func listed(t testing.TB, p datastore.Pool) map[string]datastore.Found {
	t.Helper()
	all, err := p.List(t.Context())
	must(t, err)
	out := map[string]datastore.Found{}
	for _, f := range all {
		out[f.Location] = f
	}
	if len(out) != len(all) {
		t.Errorf("something is listed twice: %+v", all)
	}
	return out
}

// full is a volume with all that a record may say.
func full(id string) datastore.Volume {
	v := formatted(thin(id, 64*mib), "ext4")
	v.Name = "a name of " + id
	v.Labels = map[string]string{"datastore-csi.io/pvc-name": "data", "datastore-csi.io/pvc-namespace": "team"}
	v.Parameters = map[string]string{"provisioning": "thin"}
	v.Filesystem.MkfsOptions = []string{"-m 1"}
	v.OnDelete, v.Wipe = v1alpha1.RetainData, v1alpha1.WipeDiscard
	return v
}

func TestListTellsAllThatRebuildsARecord(t *testing.T) {
	onEach(t, func(t *testing.T, _, _ string, reopen func() datastore.Pool) {
		p := reopen()
		v := full("pvc-1")
		snap, c := snapshot("snap-1", v), copyOf("pvc-2", v)
		snap.Wipe, snap.OnDelete = "", ""
		create(t, p, v)
		made := take(t, p, v, snap)
		restore(t, p, c, snap)
		got := listed(t, p)
		for _, want := range []datastore.Found{
			{Volume: v, State: datastore.FoundWhole, Made: create(t, p, v), Location: "volumes/" + v.BackendName(), Datastore: "fast"},
			{Volume: snap, State: datastore.FoundWhole, Made: made, Location: "snapshots/" + snap.BackendName(), Datastore: "fast", Source: by(v)},
			{Volume: c, State: datastore.FoundWhole, Made: create(t, p, c), Location: "volumes/" + c.BackendName(), Datastore: "fast", Source: by(snap)},
		} {
			f := got[want.Location]
			if d := cmp.Diff(want, f, cmpopts.IgnoreFields(datastore.Found{}, "Allocated")); d != "" {
				t.Errorf("%s: -want +got\n%s", want.Location, d)
			}
			if f.Allocated < 64<<10 || f.Allocated > 64*mib {
				t.Errorf("%s: %d bytes are allocated", want.Location, f.Allocated)
			}
		}
		if len(got) != 3 {
			t.Errorf("listed %v", got)
		}
	})
}

func TestListTellsWhatIsWrong(t *testing.T) {
	at := func(path string, v datastore.Volume) string { return filepath.Dir(imageOf(path, v)) }
	alter := func(key string, value any) func(*testing.T, string, datastore.Volume) {
		return func(t *testing.T, path string, v datastore.Volume) {
			name := filepath.Join(at(path, v), "meta.json")
			var mark map[string]any
			must(t, json.Unmarshal([]byte(content(t, name)), &mark))
			mark[key] = value
			data, err := json.Marshal(mark)
			must(t, err)
			put(t, string(data), name)
		}
	}
	for name, c := range map[string]struct {
		meddle        func(t *testing.T, path string, v datastore.Volume)
		state         datastore.FoundState
		status        v1alpha1.VolumeHealth
		reason, says  string
		otherLocation string
	}{
		"nothing": {func(*testing.T, string, datastore.Volume) {}, datastore.FoundWhole, "", "", "", ""},
		"the image is gone": {
			func(t *testing.T, path string, v datastore.Volume) { must(t, os.Remove(imageOf(path, v))) },
			datastore.FoundWhole, "DATA_LOSS", "ImageMissing", "backup", "",
		},
		"the image is too short": {
			func(t *testing.T, path string, v datastore.Volume) { must(t, os.Truncate(imageOf(path, v), 4096)) },
			datastore.FoundWhole, "DATA_LOSS", "ImageTruncated", "4096 bytes", "",
		},
		"a folder in the image's place": {
			func(t *testing.T, path string, v datastore.Volume) {
				must(t, os.Remove(imageOf(path, v)))
				must(t, os.Mkdir(imageOf(path, v), 0o700))
			},
			datastore.FoundWhole, "INACCESSIBLE", "ImageReplaced", "regular file", "",
		},
		"the mark is gone": {
			func(t *testing.T, path string, v datastore.Volume) {
				must(t, os.Remove(filepath.Join(at(path, v), "meta.json")))
			},
			datastore.FoundUnclear, "INACCESSIBLE", "MarkMissing", "restore the mark", "",
		},
		"the mark is damaged": {
			func(t *testing.T, path string, v datastore.Volume) { put(t, "{", at(path, v), "meta.json") },
			datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "backup", "",
		},
		"the mark is of a later version": {alter("layout", 7), datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "layout 7", ""},
		"the mark is of another cluster": {alter("cluster", "cluster-b"), datastore.FoundUnclear, "INACCESSIBLE", "ForeignMark", "cluster-b", ""},
		"the mark bears a hostile ID":    {alter("id", "../../etc"), datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "refused", ""},
		"a format of later":              {alter("format", "Cube"), datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "Cube", ""},
		"a copy made by hand": {
			func(t *testing.T, path string, v datastore.Volume) {
				run(t, "cp", "-a", at(path, v), filepath.Join(path, "volumes", "copy"))
			},
			datastore.FoundUnclear, "INACCESSIBLE", "Misplaced", "by hand", "volumes/copy",
		},
		"a file": {
			func(t *testing.T, path string, _ datastore.Volume) { put(t, "x", path, "volumes", "file") },
			datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "volumes/file", "volumes/file",
		},
		"a link out of the pool": {
			func(t *testing.T, path string, v datastore.Volume) {
				must(t, os.Symlink(at(path, v), filepath.Join(path, "volumes", "link")))
			},
			datastore.FoundUnclear, "INACCESSIBLE", "MarkUnreadable", "symbolic links", "volumes/link",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			p := newPool(t, path)
			v, other := thin("pvc-1", mib), thin("pvc-2", mib)
			create(t, p, v)
			create(t, p, other)
			c.meddle(t, path, v)
			got := listed(t, p)
			location := "volumes/" + v.BackendName()
			if c.otherLocation != "" {
				location = c.otherLocation
			}
			f := got[location]
			if f.State != c.state || len(got) < 2 || got["volumes/"+other.BackendName()].State != datastore.FoundWhole {
				t.Errorf("%s is %+v, beside %d", location, f, len(got)-1)
			}
			if c.reason == "" {
				if len(f.Problems) > 0 {
					t.Errorf("problems %+v", f.Problems)
				}
				return
			}
			if f.State == datastore.FoundUnclear && exists(path, location, "disk.img") && c.otherLocation != "volumes/link" {
				must(t, os.WriteFile(filepath.Join(path, location, "disk.img"), pattern(mib), 0o600))
				if got := listed(t, p)[location].Allocated; got < mib {
					t.Errorf("it takes %d bytes", got)
				}
			}
			if len(f.Problems) != 1 || f.Problems[0].Status != c.status || f.Problems[0].Reason != c.reason || !strings.Contains(f.Problems[0].Message, c.says) ||
				!strings.Contains(f.Problems[0].Message, path) {
				t.Errorf("problems %+v, want %s %s: %s", f.Problems, c.status, c.reason, c.says)
			}
		})
	}
}

func TestListTellsRemaindersAndNothingThatIsBeingMade(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	put(t, "x", path, ".datastore-csi/trash/half/disk.img")
	put(t, "x", path, ".datastore-csi/tmp/begun/disk.img")
	got := listed(t, p)
	for location, id := range map[string]string{".datastore-csi/trash/" + v.BackendName(): "pvc-1", ".datastore-csi/trash/half": "half"} {
		if f := got[location]; f.State != datastore.FoundRemainder || f.Volume.ID != id {
			t.Errorf("%s is %+v", location, f)
		}
	}
	if len(got) != 2 {
		t.Errorf("listed %+v", got)
	}
}

// BenchmarkList lists a pool of many volumes.
func BenchmarkList(b *testing.B) {
	path := memory(b, gib)
	p := newPool(b, path)
	for i := range 10000 {
		create(b, p, thin(fmt.Sprintf("pvc-%d", i), mib))
	}
	for b.Loop() {
		all, err := p.List(b.Context())
		if must(b, err); len(all) != 10000 {
			b.Fatalf("%d are listed", len(all))
		}
	}
}
