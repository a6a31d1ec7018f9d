package datastore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Expected is what a record says of a volume or snapshot on a pool.
type Expected struct {
	Volume
	// Location on the storage, once it was made.
	Location string
	// There tells that it must be there: it was made, and nobody asked for its deletion.
	There bool
}

// Expect returns what a record says of its storage.
func Expect(v Volume, w v1alpha1.WorkerStatus, d *v1alpha1.Deletion) Expected {
	return Expected{Volume: v, Location: w.Location, There: w.Phase == v1alpha1.Ready && d == nil}
}

// Comparison is how what was found on a pool differs from what the records say. Each list is sorted by
// name.
type Comparison struct {
	// Unrecorded bear our mark and have no record: nobody will ever delete them.
	Unrecorded []Found
	// Missing are recorded, and not there. Lost are recorded, and only their marks are there.
	Missing, Lost []Expected
	// Damaged are recorded and there, with problems.
	Damaged []Expected
	// Unclear bear no mark that can be read, or one that another already bears.
	Unclear []Found
	// Problems of what is recorded, by key.
	Problems map[string][]v1alpha1.Problem
}

// Compare compares what a pool's List found with all records of that pool. It only looks at its arguments:
// what is made or removed meanwhile must be looked at again before it is told.
func Compare(found []Found, expected []Expected) Comparison {
	c := comparing{expected: map[string]Expected{}, at: map[string]string{}, seen: map[string]bool{}}
	c.Problems = map[string][]v1alpha1.Problem{}
	for _, e := range expected {
		c.expected[e.Key()] = e
		if e.Location != "" {
			c.at[e.Location] = e.Key()
		}
	}
	for _, f := range found {
		c.add(f)
	}
	for _, e := range expected {
		if e.There && !c.seen[e.Key()] {
			c.Missing = append(c.Missing, e)
			c.Problems[e.Key()] = append(c.Problems[e.Key()], missing(e))
		}
	}
	byName := func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.Volume.ID, b.Volume.ID), cmp.Compare(a.Location, b.Location))
	}
	slices.SortFunc(c.Unrecorded, byName)
	slices.SortFunc(c.Unclear, byName)
	for _, all := range [][]Expected{c.Missing, c.Lost, c.Damaged} {
		slices.SortFunc(all, func(a, b Expected) int { return cmp.Compare(a.Key(), b.Key()) })
	}
	return c.Comparison
}

// comparing is a comparison that is being made.
type comparing struct {
	Comparison
	expected map[string]Expected // by key
	at       map[string]string   // keys by location
	seen     map[string]bool     // keys
}

func (c *comparing) add(f Found) {
	switch f.State {
	case FoundRemainder, FoundArchived:
		return // meant to be there
	case FoundUnclear:
		c.Unclear = append(c.Unclear, f)
		c.blame(c.at[f.Location], f, v1alpha1.Problem{
			Status: "INACCESSIBLE", Reason: "MarkUnreadable",
			Message: fmt.Sprintf("its mark at %s can't be read; restore it from a backup", f.Location),
		})
		return
	}
	key := f.Volume.Key()
	e, known := c.expected[key]
	switch {
	case known && e.UID == f.Volume.UID && e.Location != "" && e.Location != f.Location:
		c.Unclear = append(c.Unclear, f) // a copy that somebody made by hand
	case known && e.UID == f.Volume.UID:
		c.blame(key, f)
	case f.State == FoundWhole:
		c.Unrecorded = append(c.Unrecorded, f)
	}
}

// blame notes that something recorded is there, and what is wrong with it: what was found, else the defaults.
func (c *comparing) blame(key string, f Found, otherwise ...v1alpha1.Problem) {
	if key == "" {
		return // nothing recorded lies there
	}
	c.seen[key] = true
	problems := f.Problems
	if len(problems) == 0 {
		problems = otherwise
	}
	if len(problems) == 0 {
		return
	}
	c.Problems[key] = problems
	switch e := c.expected[key]; {
	case !e.There:
	case slices.ContainsFunc(problems, func(p v1alpha1.Problem) bool { return p.Status == dataLoss }):
		c.Lost = append(c.Lost, e)
	case f.State != FoundUnclear:
		c.Damaged = append(c.Damaged, e)
	}
}

// dataLoss is the kind of problem of what is gone for good.
const dataLoss v1alpha1.VolumeHealth = "DATA_LOSS"

func missing(e Expected) v1alpha1.Problem {
	return v1alpha1.Problem{
		Status: dataLoss, Reason: "StorageMissing",
		Message: fmt.Sprintf("its record says that it is at %s, and it is not there; restore it from a backup, or delete it", e.Location),
	}
}

// promise is what of a pool's promises something takes whether it has a record or not.
func (f Found) promise() int64 {
	if f.Volume.Snapshot {
		return max(f.Made.Promised, f.Allocated)
	}
	return max(f.Volume.Takes(), f.Made.Takes, f.Allocated)
}

// Audit is a comparison as a pool's status tells it.
type Audit struct {
	// Orphans, sorted by name.
	Orphans []v1alpha1.Orphan
	// Promised are the bytes that what has no record takes of the pool's promises. What is unclear is not the pool's
	// own, so its bytes are taken already.
	Promised int64
	Findings []v1alpha1.Finding
}

// Audit tells a comparison.
func (c Comparison) Audit() Audit {
	var out Audit
	var taken int64
	for _, f := range c.Unrecorded {
		out.Promised += f.promise()
		taken += f.Allocated
		out.Orphans = append(out.Orphans, v1alpha1.Orphan{
			Kind: v1alpha1.NoRecord, Name: f.Volume.ID, Location: f.Location, Size: v1alpha1.Bytes(f.Allocated),
			Since: metav1.NewTime(f.Volume.Created), Snapshot: f.Volume.Snapshot,
		})
	}
	for _, f := range c.Unclear {
		out.Orphans = append(out.Orphans, v1alpha1.Orphan{
			Kind: v1alpha1.Unclear, Name: f.Volume.ID, Location: f.Location, Size: v1alpha1.Bytes(f.Allocated), Snapshot: f.Volume.Snapshot,
			Message: firstMessage(f.Problems),
		})
	}
	without := slices.Concat(c.Missing, c.Lost)
	for _, e := range without {
		out.Orphans = append(out.Orphans, v1alpha1.Orphan{
			Kind: v1alpha1.NoStorage, Name: e.ID, Location: e.Location, Size: v1alpha1.Bytes(e.Bytes),
			Since: metav1.NewTime(e.Created), Snapshot: e.Snapshot, Message: firstMessage(c.Problems[e.Key()]),
		})
	}
	slices.SortStableFunc(out.Orphans, func(a, b v1alpha1.Orphan) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Location, b.Location))
	})
	find := func(reason string, places []string, format string, args ...any) {
		if len(places) > 0 {
			out.Findings = append(out.Findings, v1alpha1.Finding{Reason: reason, Message: fmt.Sprintf(format, args...) + ": " + some(places)})
		}
	}
	find("Orphans", places(c.Unrecorded), "%d volumes and snapshots lie here that have no record, and take %s; they are left alone: "+
		"give them back their records with `datastore-csi recover`, or remove them by hand", len(c.Unrecorded), human(taken))
	var lost []string
	for _, e := range without {
		lost = append(lost, e.Location)
	}
	find("StorageMissing", lost, "%d volumes and snapshots have a record and are not there; restore them from a backup, or delete them", len(lost))
	find("Unclear", places(c.Unclear), "%d marks can't be read or are another's; what bears them is left alone: restore them from a backup, or move them away",
		len(c.Unclear))
	return out
}

func firstMessage(problems []v1alpha1.Problem) string {
	if len(problems) == 0 {
		return ""
	}
	return problems[0].Message
}

func places(found []Found) []string {
	out := make([]string, len(found))
	for i, f := range found {
		out[i] = f.Location
	}
	return out
}

// some names a few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + fmt.Sprintf(" and %d more", len(names)-few)
}
