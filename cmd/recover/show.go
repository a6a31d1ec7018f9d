package recover

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// show prints a plan, and what it comes to.
func show(out io.Writer, looks []parts.Look, plan []entry, applied bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	var text strings.Builder
	line := func(cells ...string) { fmt.Fprintln(&text, strings.Join(cells, "\t")) }
	line("WHAT", "KIND", "NAME", "DATASTORE", "SIZE", "LOCATION", "NOTE")
	for _, l := range looks {
		if l.Err != nil {
			line(string(judgePool(l.Err)), "datastore", l.Datastore.Name, l.Datastore.Name, "-", "-", l.Err.Error())
		}
	}
	counts := map[verdict]int{}
	for _, e := range plan {
		counts[e.verdict]++
		kind := "volume"
		if e.found.Volume.Snapshot {
			kind = "snapshot"
		}
		note := e.why
		if e.used {
			note = strings.TrimPrefix(note+"; in use on this host", "; ")
		}
		size := v1alpha1.Bytes(e.found.Volume.Bytes)
		line(string(e.verdict), kind, e.found.Volume.ID, e.on, size.String(), e.found.Location, note)
	}
	line()
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, summary(counts, applied)+partial(looks))
	return err
}

// partial warns of what could not be looked at: a mark names its cluster, not its pool.
func partial(looks []parts.Look) string {
	if !slices.ContainsFunc(looks, func(l parts.Look) bool { return l.Err != nil }) {
		return ""
	}
	return "\nNot every datastore could be looked at. Where a volume's folder was copied from one to another, the original may be there: " +
		"bring it back before --apply."
}

// judgePool is the word for a datastore of which nothing is recovered.
func judgePool(err error) verdict {
	var others *datastore.ForeignError
	switch {
	case fault.Is(err, fault.NotFound):
		return "no pool"
	case errors.As(err, &others):
		return foreign
	}
	return "unavailable"
}

func summary(counts map[verdict]int, applied bool) string {
	words := []string{}
	for _, v := range []verdict{keep, retained, archived, remainder, foreign, unclear} {
		if counts[v] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	others := ""
	if len(words) > 0 {
		others = "; left as they are: " + strings.Join(words, ", ")
	}
	switch {
	case applied:
		return fmt.Sprintf("%d recovered%s.", counts[restore], others)
	case counts[restore] == 0:
		return fmt.Sprintf("0 can be recovered%s.", others)
	}
	return fmt.Sprintf("%d can be recovered%s. Nothing was written: --apply writes their records.", counts[restore], others)
}
