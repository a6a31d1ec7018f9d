package status

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// write prints a report in a format.
func (r Report) write(out io.Writer, format string, now time.Time) error {
	if format == parts.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.line("host %s, cluster %s, version %s\n", r.Host, r.ClusterID, r.Version)
	t.line("DATASTORE\tTYPE\tHEALTH\tTOTAL\tUSED\tAVAILABLE\tPROVISIONED\tVOLUMES\tORPHANS")
	for _, d := range r.Datastores {
		t.line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d", d.Name, d.Type, d.Health,
			v1alpha1.Readable(d.Total), v1alpha1.Readable(d.Used), v1alpha1.Readable(d.Available), v1alpha1.Readable(d.Provisioned), d.Volumes, len(d.Orphans))
	}
	for _, d := range r.Datastores {
		for _, f := range d.Findings {
			t.head("FINDING\tDATASTORE\tWHAT")
			t.line("%s\t%s\t%s", f.Reason, d.Name, f.Message)
		}
	}
	t.end()
	for _, a := range r.Abnormal {
		t.head("ABNORMAL\tNAME\tDATASTORE\tREASON\tWHAT")
		for _, p := range a.Problems {
			t.line("%s\t%s\t%s\t%s\t%s", a.Kind, a.Name, a.Datastore, p.Reason, p.Message)
		}
		if a.Failure != nil {
			t.line("%s\t%s\t%s\t%s\t%s", a.Kind, a.Name, a.Datastore, a.Failure.Reason, a.Failure.Message)
		}
	}
	t.end()
	for _, c := range r.Copies {
		t.head("COPYING\tNAME\tDATASTORE\tDONE\tOF\tPERCENT")
		t.line("%s\t%s\t%s\t%s\t%s\t%d", c.Kind, c.Name, c.Datastore, v1alpha1.Readable(c.Done), v1alpha1.Readable(c.Total), percent(c.Done, c.Total))
	}
	t.end()
	for _, d := range r.Datastores {
		for _, o := range d.Orphans {
			age := "-"
			if !o.Since.IsZero() {
				age = duration.HumanDuration(now.Sub(o.Since.Time))
			}
			t.head("ORPHAN\tNAME\tDATASTORE\tSIZE\tAGE\tLOCATION\tNOTE")
			t.line("%s\t%s\t%s\t%s\t%s\t%s\t%s", o.Kind, o.Name, d.Name, v1alpha1.Readable(o.Size.Value()), age, o.Location, o.Message)
		}
	}
	t.end()
	return t.err
}

// table prints tables one below the other, and keeps the first error.
type table struct {
	w      *tabwriter.Writer
	headed bool
	err    error
}

func (t *table) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// head begins a table where it is not begun.
func (t *table) head(columns string) {
	if t.headed {
		return
	}
	t.end()
	t.headed = true
	t.line("")
	t.line("%s", columns)
}

// end ends a table: the columns of the next one are its own.
func (t *table) end() {
	t.headed = false
	if t.err == nil {
		t.err = t.w.Flush()
	}
}

func percent(done, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return int64(float64(done) / float64(total) * 100)
}
