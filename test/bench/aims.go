package main

import (
	"fmt"
	"slices"
)

// The aims. Times are ratios to the floor, or stand for any machine with two cores and a disk of its own.
const (
	mostOverHand     = 1.3
	leastOfDevice    = 0.95
	leastAlone       = 60
	leastTogether    = 150
	mostIdleAnonMiB  = 20
	mostRSSMiB       = 30
	mostStartMs      = 500
	mostFrom10To10k  = 1.5
	flatLeastVolumes = 10
)

// The comparisons that have aims. Where the plain one is missed, the other says what of it is the driver's own: by hand nobody
// could tell after a crash what was under way, and no calls are made.
const (
	aimCreate  = "CreateVolume"
	aimPublish = "stage + publish"
	aimLife    = "a life"
	recordsToo = ", records too"
	callsToo   = ", calls too"
)

// aims judges what was measured.
func (r *report) aims() []aim {
	var out []aim
	for _, f := range r.Floors {
		what := fmt.Sprintf("%s, %s (%s)", f.Name, f.Volume, f.Place)
		switch {
		case f.Volume == ext4Image && slices.Contains([]string{aimCreate, aimPublish, aimPublish + recordsToo}, f.Name),
			f.Volume == limitedTree && slices.Contains([]string{aimLife, aimLife + callsToo}, f.Name):
			out = append(out, atMost(what, f.Ratio, mostOverHand, "of by hand"))
		}
	}
	for _, f := range r.IO {
		out = append(out, atLeast(f.Name, f.Ratio, leastOfDevice, "of by hand"))
	}
	for _, l := range r.Lives {
		if l.Volume != subdirectory {
			continue
		}
		least := float64(leastAlone)
		if l.Callers > 1 {
			least = leastTogether
		}
		out = append(out, atLeast(fmt.Sprintf("lives of a %s, %d at once (%s)", l.Volume, l.Callers, l.Place), l.PerSecond, least, "per s"))
	}
	out = append(out, r.blockAims()...)
	out = append(out, r.flatness()...)
	for _, m := range r.Many {
		if m.Existing == 10000 {
			out = append(out, atMost(fmt.Sprintf("start with %d volumes, %s", m.Existing, m.Volume), m.StartMs, mostStartMs, "ms"))
		}
	}
	for _, f := range r.Footprint {
		switch f.Existing {
		case 0:
			out = append(out, atMost("idle RssAnon", f.AnonMiB, mostIdleAnonMiB, "MiB"))
		case 1000:
			out = append(out, atMost(fmt.Sprintf("RSS with %d volumes after %s, %s", f.Existing, f.After, f.Volume), f.RSSMiB, mostRSSMiB, "MiB"))
		}
	}
	return out
}

// flatness compares calls where many volumes exist with the same where few do.
func (r *report) flatness() []aim {
	var out []aim
	least := map[string]manyFigures{}
	most := map[string]manyFigures{}
	var kinds []string
	for _, m := range r.Many {
		if m.Existing == flatLeastVolumes {
			least[m.Volume] = m
			kinds = append(kinds, m.Volume)
		}
		if m.Existing > most[m.Volume].Existing {
			most[m.Volume] = m
		}
	}
	for _, kind := range kinds {
		for _, call := range []string{callCreate, callList, callCapacity} {
			few, many := least[kind].Calls[call].P50, most[kind].Calls[call].P50
			if few > 0 {
				name := fmt.Sprintf("%s p50 with %d volumes over 10, %s", call, most[kind].Existing, kind)
				out = append(out, atMost(name, round(many/few, 2), mostFrom10To10k, "times"))
			}
		}
	}
	return out
}
