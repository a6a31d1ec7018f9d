package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// tables gives the report as a person reads it.
func (r *report) tables() string {
	out := &strings.Builder{}
	m := r.Machine
	fmt.Fprintf(out, "%d x %s, %d MiB; Linux %s; %s; load average %s before, %s after; %.0f s\n",
		m.CPUs, m.Processor, m.MemoryMiB, m.Kernel, m.Filesystem, m.LoadBefore, m.LoadAfter, r.Seconds)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(out, "%s %s; ", name, m.Versions[name])
	}
	fmt.Fprintf(out, "a page and fdatasync %.2f ms (p50)\n", m.Fsync.P50)
	r.printLives(out)
	for _, c := range r.Copies {
		section(out, fmt.Sprintf("Growth and copies of a %s, %s", c.Volume, c.Place))
		calls(out, c.Calls)
	}
	r.printFloors(out)
	r.printMany(out)
	r.printAims(out)
	return out.String()
}

func section(out *strings.Builder, name string) {
	fmt.Fprintf(out, "\n%s\n%s\n", name, strings.Repeat("-", len(name)))
}

// rows aligns columns that are separated by tabs, figures to the right.
func rows(out *strings.Builder, lines ...string) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = w.Write([]byte(strings.Join(lines, "\n") + "\n")) // a builder takes all
	_ = w.Flush()
}

func calls(out *strings.Builder, all map[string]latency) {
	lines := []string{"call\tcalls\tp50 ms\tp95\tp99\tmost"}
	for _, name := range sorted(all) {
		l := all[name]
		lines = append(lines, fmt.Sprintf("%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f", name, l.Count, l.P50, l.P95, l.P99, l.Max))
	}
	rows(out, lines...)
}

func (r *report) printLives(out *strings.Builder) {
	for _, l := range r.Lives {
		section(out, fmt.Sprintf("Lives of a %s, %d at once, %s: %.1f per s (rounds: %v)", l.Volume, l.Callers, l.Place, l.PerSecond, l.Rounds))
		calls(out, l.Calls)
	}
}

func (r *report) printFloors(out *strings.Builder) {
	if len(r.Floors)+len(r.IO) == 0 {
		return
	}
	section(out, "Beside the same by hand, in turns, medians")
	lines := []string{"what\tof a\twhere\tunit\tdriver\tby hand\tratio\tby hand is"}
	for _, f := range slices.Concat(r.Floors, r.IO) {
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s", f.Name, f.Volume, f.Place, f.Unit, f.Driver, f.Hand, f.Ratio, f.Parts))
	}
	rows(out, lines...)
}

func (r *report) printMany(out *strings.Builder) {
	if len(r.Many) > 0 {
		section(out, "Where many volumes exist, p50 in ms")
		names := []string{callCreate, "DeleteVolume", callList, callListAll, callCapacity}
		lines := []string{"volumes\tof kind\t" + strings.Join(names, "\t") + "\tstart"}
		for _, m := range r.Many {
			line := fmt.Sprintf("%d\t%s", m.Existing, m.Volume)
			for _, name := range names {
				line += fmt.Sprintf("\t%.2f", m.Calls[name].P50)
			}
			lines = append(lines, fmt.Sprintf("%s\t%.0f", line, m.StartMs))
		}
		rows(out, lines...)
		fmt.Fprintf(out, "%s is a page of %d.\n", callList, pageOf)
	}
	if len(r.Footprint) > 0 {
		section(out, "The driver's memory, idle, in MiB")
		lines := []string{"volumes\tof kind\tafter\tRssAnon\tRSS"}
		for _, f := range r.Footprint {
			lines = append(lines, fmt.Sprintf("%d\t%s\t%s\t%.1f\t%.1f", f.Existing, f.Volume, f.After, f.AnonMiB, f.RSSMiB))
		}
		rows(out, lines...)
	}
}

func (r *report) printAims(out *strings.Builder) {
	section(out, "Aims")
	lines := []string{"what\tmeasured\taim\t\t"}
	for _, a := range r.Aims {
		wanted, met := fmt.Sprintf("at most %g", a.Most), "met"
		if a.Most == 0 {
			wanted = fmt.Sprintf("at least %g", a.Least)
		}
		if !a.Met {
			met = "MISSED"
		}
		lines = append(lines, fmt.Sprintf("%s\t%g\t%s %s\t%s", a.Name, a.Measured, wanted, a.Unit, met))
	}
	rows(out, lines...)
}
