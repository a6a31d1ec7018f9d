package datastore

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

func lies(state FoundState, v Volume, alter ...func(*Found)) Found {
	f := Found{Volume: v, State: state, Location: "volumes/" + v.BackendName(), Allocated: 10}
	for _, a := range alter {
		a(&f)
	}
	return f
}

func recorded(v Volume, alter ...func(*Expected)) Expected {
	e := Expected{Volume: v, Location: "volumes/" + v.BackendName(), There: true}
	for _, a := range alter {
		a(&e)
	}
	return e
}

func TestCompare(t *testing.T) {
	v := Volume{ID: "v", UID: "11111111", Bytes: 100}
	snap := Volume{ID: "v", UID: "22222222", Bytes: 100, Snapshot: true}
	later := Volume{ID: "v", UID: "33333333", Bytes: 100}
	damaged := []v1alpha1.Problem{{Status: "DATA_LOSS", Reason: "ImageMissing", Message: "gone"}}
	worn := []v1alpha1.Problem{{Status: "DEGRADED", Reason: "Sparse", Message: "holes"}}
	unmade := func(e *Expected) { e.Location, e.There = "", false }
	leaving := func(e *Expected) { e.There = false }
	elsewhere := func(f *Found) { f.Location = "volumes/by-hand" }
	for name, c := range map[string]struct {
		found    []Found
		expected []Expected
		// What is told, by locations; problems as "key reason".
		unrecorded, missing, unclear, problems []string
		// lost are recorded without bytes, damaged with problems; by ID.
		lost, damaged []string
	}{
		"nothing at all":                       {},
		"what is recorded and there":           {found: []Found{lies(FoundWhole, v)}, expected: []Expected{recorded(v)}},
		"a snapshot is no volume of that name": {found: []Found{lies(FoundWhole, snap)}, expected: []Expected{recorded(v)}, unrecorded: []string{"volumes/v-22222222"}, missing: []string{"volumes/v-11111111"}, problems: []string{"v StorageMissing"}},
		"no record":                            {found: []Found{lies(FoundWhole, v)}, unrecorded: []string{"volumes/v-11111111"}},
		"no storage":                           {expected: []Expected{recorded(v)}, missing: []string{"volumes/v-11111111"}, problems: []string{"v StorageMissing"}},
		"an earlier life of that name":         {found: []Found{lies(FoundWhole, v), lies(FoundWhole, later)}, expected: []Expected{recorded(later)}, unrecorded: []string{"volumes/v-11111111"}},
		"made, and not yet said so":            {found: []Found{lies(FoundWhole, v)}, expected: []Expected{recorded(v, unmade)}},
		"not yet made":                         {expected: []Expected{recorded(v, unmade)}},
		"being deleted, and still there":       {found: []Found{lies(FoundWhole, v)}, expected: []Expected{recorded(v, leaving)}},
		"being deleted, and gone":              {found: []Found{lies(FoundRemainder, v)}, expected: []Expected{recorded(v, leaving)}},
		"deleted, and waiting for its wipe":    {found: []Found{lies(FoundRemainder, v)}},
		"archived":                             {found: []Found{lies(FoundArchived, v)}},
		"retained":                             {found: []Found{lies(FoundRetained, v)}},
		"retained, and its record put back":    {found: []Found{lies(FoundRetained, v)}, expected: []Expected{recorded(v)}},
		"a mark that can't be read": {
			found: []Found{lies(FoundUnclear, v)}, expected: []Expected{recorded(v)}, unclear: []string{"volumes/v-11111111"}, problems: []string{"v MarkUnreadable"},
		},
		"a stranger's mark": {found: []Found{lies(FoundUnclear, Volume{}, elsewhere)}, expected: nil, unclear: []string{"volumes/by-hand"}},
		"a copy made by hand": {
			found: []Found{lies(FoundWhole, v, elsewhere), lies(FoundWhole, v)}, expected: []Expected{recorded(v)}, unclear: []string{"volumes/by-hand"},
		},
		"something wrong with it": {
			found: []Found{lies(FoundWhole, v, func(f *Found) { f.Problems = damaged })}, expected: []Expected{recorded(v)},
			problems: []string{"v ImageMissing"}, lost: []string{"v"},
		},
		"something wrong with it that isn't its end": {
			found: []Found{lies(FoundWhole, v, func(f *Found) { f.Problems = worn })}, expected: []Expected{recorded(v)},
			problems: []string{"v Sparse"}, damaged: []string{"v"},
		},
		"something wrong with what is being deleted": {
			found: []Found{lies(FoundWhole, v, func(f *Found) { f.Problems = damaged })}, expected: []Expected{recorded(v, leaving)},
			problems: []string{"v ImageMissing"},
		},
		"something wrong with a snapshot": {
			found: []Found{lies(FoundUnclear, snap, func(f *Found) { f.Problems = damaged })}, expected: []Expected{recorded(snap)},
			unclear: []string{"volumes/v-22222222"}, problems: []string{"snapshot/v ImageMissing"}, lost: []string{"v"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Compare(c.found, c.expected)
			var missing, problems, lost, damaged []string
			for _, e := range got.Lost {
				lost = append(lost, e.ID)
			}
			for _, e := range got.Damaged {
				damaged = append(damaged, e.ID)
			}
			for _, m := range got.Missing {
				missing = append(missing, m.Location)
			}
			for key, all := range got.Problems {
				for _, p := range all {
					problems = append(problems, key+" "+p.Reason)
				}
			}
			for _, d := range []struct {
				what      string
				got, want []string
			}{
				{"unrecorded", places(got.Unrecorded), c.unrecorded},
				{"missing", missing, c.missing},
				{"unclear", places(got.Unclear), c.unclear},
				{"problems", problems, c.problems},
				{"lost", lost, c.lost},
				{"damaged", damaged, c.damaged},
			} {
				if diff := cmp.Diff(d.want, d.got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", d.what, diff)
				}
			}
		})
	}
}

func TestCompareTellsTheSameInWhateverOrder(t *testing.T) {
	var found []Found
	var expected []Expected
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		v := Volume{ID: id, UID: "11111111"}
		found = append(found, lies(FoundWhole, v), lies(FoundUnclear, Volume{ID: id, UID: "22222222"}))
		expected = append(expected, recorded(Volume{ID: id, UID: "33333333"}))
	}
	want := Compare(found, expected)
	for range 20 {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		rand.Shuffle(len(expected), func(i, j int) { expected[i], expected[j] = expected[j], expected[i] })
		if diff := cmp.Diff(want, Compare(found, expected)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestAnAuditTellsOrphansWithAgeAndSizeAndKeepsTheirPromises(t *testing.T) {
	made := time.Unix(1700000000, 0)
	thin := lies(FoundWhole, Volume{ID: "thin", UID: "11111111", Bytes: 300, Created: made})
	snap := lies(FoundWhole, Volume{ID: "snap", UID: "22222222", Bytes: 500, Snapshot: true}, func(f *Found) { f.Made.Promised = 40 })
	gone := recorded(Volume{ID: "gone", UID: "33333333", Bytes: 700, Created: made})
	audit := Compare([]Found{thin, snap, lies(FoundUnclear, Volume{ID: "x", UID: "44444444"})}, []Expected{gone}).Audit()
	if audit.Promised != 340 {
		t.Errorf("promised %d", audit.Promised)
	}
	var got []string
	for _, o := range audit.Orphans {
		got = append(got, string(o.Kind)+" "+o.Name+" "+o.Size.String())
		if (o.Name == "thin" || o.Name == "gone") && !o.Since.Time.Equal(made) {
			t.Errorf("%s since %s", o.Name, o.Since)
		}
	}
	if diff := cmp.Diff([]string{"NoStorage gone 700", "NoRecord snap 10", "NoRecord thin 10", "Unclear x 10"}, got); diff != "" {
		t.Error(diff)
	}
	reasons := map[string]string{}
	for _, f := range audit.Findings {
		reasons[f.Reason] = f.Message
	}
	for reason, words := range map[string]string{"Orphans": "recover", "StorageMissing": "volumes/gone-33333333", "Unclear": "volumes/x-44444444"} {
		if !strings.Contains(reasons[reason], words) {
			t.Errorf("finding %s: %q", reason, reasons[reason])
		}
	}
}

func TestWhatHasNoRecordIsNotPromisedAgain(t *testing.T) {
	s := Status{Total: 1000, Used: 200, Own: 150}
	before, after := assess(described("a"), s, nil, Audit{}), assess(described("a"), s, nil, Audit{
		Promised: 300, Findings: []v1alpha1.Finding{{Reason: "Orphans"}}, Orphans: []v1alpha1.Orphan{{Name: "v"}},
	})
	if before.Promisable.Value() != 900 || after.Promisable.Value() != 600 { // 1000 less the reserve and what is foreign
		t.Errorf("promisable %v and %v", before.Promisable, after.Promisable)
	}
	if before.Health != v1alpha1.Healthy || after.Health != v1alpha1.Warning || len(after.Orphans) != 1 {
		t.Errorf("health %s and %s, orphans %v", before.Health, after.Health, after.Orphans)
	}
}
