package lvm

import (
	"cmp"
	"slices"
	"strconv"
)

// End is the extent behind the range.
func (r Range) End() int64 { return r.Start + r.Count }

// Count adds up extents.
func Count(ranges []Range) int64 {
	var n int64
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

// Union returns ranges sorted, those that touch joined.
func Union(all ...[]Range) []Range {
	sorted := slices.Concat(all...)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Or(cmp.Compare(a.PV, b.PV), cmp.Compare(a.Start, b.Start)) })
	var out []Range
	for _, r := range sorted {
		if r.Count <= 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].PV == r.PV && r.Start <= out[n-1].End() {
			out[n-1].Count = max(out[n-1].End(), r.End()) - out[n-1].Start
			continue
		}
		out = append(out, r)
	}
	return out
}

// Subtract returns what of the first ranges is in none of the second.
func Subtract(from, what []Range) []Range {
	var out []Range
	what = Union(what)
	for _, r := range Union(from) {
		for _, w := range what {
			if w.PV != r.PV || w.End() <= r.Start || w.Start >= r.End() {
				continue
			}
			if w.Start > r.Start {
				out = append(out, Range{r.PV, r.Start, w.Start - r.Start})
			}
			end := r.End()
			r.Start = min(w.End(), end)
			r.Count = end - r.Start
		}
		if r.Count > 0 {
			out = append(out, r)
		}
	}
	return out
}

// Intersect returns what is in both.
func Intersect(a, b []Range) []Range { return Subtract(a, Subtract(a, b)) }

// Pick returns that many extents out of ranges, in few pieces: the smallest range that holds them all, else the largest ones.
// False tells that there are not enough, or that they would be in more than most pieces.
func Pick(ranges []Range, extents int64, most int) ([]Range, bool) {
	sorted := Union(ranges)
	slices.SortStableFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Count, b.Count) })
	if i := slices.IndexFunc(sorted, func(r Range) bool { return r.Count >= extents }); i >= 0 {
		return []Range{{sorted[i].PV, sorted[i].Start, extents}}, true
	}
	var out []Range
	for i := len(sorted) - 1; i >= 0 && extents > 0 && len(out) < most; i-- {
		r := sorted[i]
		r.Count = min(r.Count, extents)
		extents -= r.Count
		out = append(out, r)
	}
	return out, extents == 0
}

// arguments write ranges as lvm takes them (lvcreate(8): PV[:PE[-PE]]); false where a device is missing.
func (vg *VolumeGroup) arguments(ranges []Range) ([]string, bool) {
	var out []string
	for _, r := range ranges {
		i := slices.IndexFunc(vg.PVs, func(p PhysicalVolume) bool { return p.UUID == r.PV && p.Device != "" })
		if i < 0 || r.Count <= 0 {
			return nil, false
		}
		out = append(out, vg.PVs[i].Device+":"+strconv.FormatInt(r.Start, 10)+"-"+strconv.FormatInt(r.End()-1, 10))
	}
	return out, true
}
