package recover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// verdict says what becomes of something that was found.
type verdict string

const (
	restore   verdict = "recover"
	keep      verdict = "recorded"
	retained  verdict = "retained"
	archived  verdict = "archived"
	remainder verdict = "remainder"
	foreign   verdict = "foreign"
	unclear   verdict = "unclear"
)

// entry is one line of a plan.
type entry struct {
	verdict verdict
	found   datastore.Found
	on      string
	// why it is not recovered, or what is wrong with it all the same.
	why string
	// used tells that something on this host uses it.
	used bool
}

// known is what a record says that is there already.
type known struct{ uid, on, location string }

// makePlan decides on all that was found, sorted by datastore and name. Records by key are kept. It only looks
// at its arguments.
func makePlan(looks []parts.Look, records map[string]known, clusterID string) []entry {
	marks := map[string]int{} // by key
	for _, l := range looks {
		for _, f := range l.Found {
			if f.State == datastore.FoundWhole {
				marks[f.Volume.Key()]++
			}
		}
	}
	var out []entry
	for _, l := range looks {
		for _, f := range l.Found {
			e := entry{found: f, on: l.Datastore.Name}
			e.verdict, e.why = judge(f, e.on, clusterID)
			if e.verdict == restore {
				e.verdict, e.why = compete(e, marks[f.Volume.Key()], records)
			}
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.on, b.on), cmp.Compare(a.found.Volume.ID, b.found.Volume.ID), cmp.Compare(a.found.Location, b.found.Location))
	})
	return out
}

// judge decides on something by what it says of itself.
func judge(f datastore.Found, on, clusterID string) (verdict, string) {
	switch f.State {
	case datastore.FoundRetained:
		return retained, "it was kept when its volume was deleted"
	case datastore.FoundArchived:
		return archived, "it was kept when its volume was deleted"
	case datastore.FoundRemainder:
		return remainder, "it was deleted and waits for its removal"
	case datastore.FoundUnclear:
		for _, p := range f.Problems {
			if p.Reason == "ForeignMark" {
				return foreign, p.Message
			}
		}
		return unclear, cmp.Or(messages(f.Problems), "its mark can't be read")
	}
	switch {
	case f.Volume.ClusterID != clusterID:
		return foreign, fmt.Sprintf("it is of cluster %q", f.Volume.ClusterID)
	case f.Datastore != "" && f.Datastore != on:
		return foreign, fmt.Sprintf("it is of datastore %q", f.Datastore)
	}
	if lacks := incomplete(f); lacks != "" {
		return unclear, "its mark " + lacks
	}
	return restore, messages(f.Problems)
}

// compete decides on something that could be recovered, beside other marks and records of its name.
func compete(e entry, marks int, records map[string]known) (verdict, string) {
	v := e.found.Volume
	r, ok := records[v.Key()]
	switch {
	case ok && r.uid == v.UID && r.on == e.on && (r.location == "" || r.location == e.found.Location):
		return keep, e.why
	case ok:
		return unclear, fmt.Sprintf("a record of that name is for another one: UID %s at %s on datastore %s", r.uid, cmp.Or(r.location, "no place yet"), r.on)
	case marks > 1:
		return unclear, fmt.Sprintf("%d marks name it; move all but one away", marks)
	}
	return restore, e.why
}

func messages(problems []v1alpha1.Problem) string {
	out := make([]string, len(problems))
	for i, p := range problems {
		out[i] = p.Message
	}
	return strings.Join(out, "; ")
}
