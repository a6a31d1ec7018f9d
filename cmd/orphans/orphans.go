// Package orphans lists what lies on datastores without a record, and what is recorded and not there, while the
// driver is stopped. It changes nothing.
package orphans

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Report is what is printed.
type Report struct {
	Orphans []Orphan `json:"orphans"`
	// Unavailable are the datastores that could not be looked at.
	Unavailable []Unavailable `json:"unavailable"`
}

// Unavailable says why a datastore could not be looked at.
type Unavailable struct {
	Datastore string `json:"datastore"`
	Message   string `json:"message"`
}

// Orphan is one line of the list.
type Orphan struct {
	Datastore string `json:"datastore"`
	v1alpha1.Orphan
	// AgeSeconds since it was made; 0 where nobody knows.
	AgeSeconds int64 `json:"ageSeconds"`
}

// Run prints the orphans. The error is also set where a datastore could not be looked at.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	documents, bad := parts.ReadDocuments(o.Datastores)
	if len(documents) == 0 {
		return fmt.Errorf("read the datastores: %w", bad)
	}
	has, err := parts.HasRecords(o.StateDir)
	if err != nil {
		return err
	}
	if !has {
		return fault.New(fault.NotFound, "state directory %s holds no records: everything on the datastores is without one; "+
			"`datastore-csi recover` shows it and gives the records back", o.StateDir)
	}
	state, err := parts.ReopenState(ctx, o.StateDir)
	if err != nil {
		return parts.Holder(err, "look at its status, or its metrics, or stop it")
	}
	report, err := look(ctx, state, o, documents)
	err = errors.Join(err, state.Close(), bad)
	return errors.Join(report.write(o.Out, o.Format), err)
}

// look looks at every datastore of the host.
func look(ctx context.Context, state *parts.State, o Options, documents []*v1alpha1.Datastore) (Report, error) {
	out := Report{Orphans: []Orphan{}, Unavailable: []Unavailable{}}
	looker, err := parts.NewLooker(o.StateDir, "", state.ClusterID())
	if err != nil {
		return out, err
	}
	var errs []error
	for _, l := range looker.Look(ctx, documents) {
		if !datastore.Serves(l.Datastore, state.Host) {
			continue
		}
		expected, err := expected(ctx, state.Store(), l.Datastore.Name)
		if err != nil {
			return out, err
		}
		if l.Err != nil && !(fault.Is(l.Err, fault.NotFound) && len(expected) == 0) {
			errs = append(errs, l.Err)
			out.Unavailable = append(out.Unavailable, Unavailable{l.Datastore.Name, l.Err.Error()})
			continue
		}
		for _, found := range rows(datastore.Compare(l.Found, expected)) {
			row := Orphan{Datastore: l.Datastore.Name, Orphan: found}
			if !found.Since.IsZero() {
				row.AgeSeconds = int64(o.Now().Sub(found.Since.Time).Seconds())
			}
			out.Orphans = append(out.Orphans, row)
		}
	}
	return out, errors.Join(errs...)
}

// Damaged are recorded and there, and something is wrong with them.
const Damaged v1alpha1.OrphanKind = "Damaged"

// rows are the orphans, and what is damaged.
func rows(c datastore.Comparison) []v1alpha1.Orphan {
	out := c.Audit().Orphans
	for _, e := range c.Damaged {
		out = append(out, v1alpha1.Orphan{
			Kind: Damaged, Name: e.ID, Location: e.Location, Size: v1alpha1.Bytes(e.Bytes), Since: metav1.NewTime(e.Created),
			Snapshot: e.Snapshot, Message: c.Problems[e.Key()][0].Message,
		})
	}
	return out
}

// expected is what the records say of a datastore.
func expected(ctx context.Context, s *store.Store, name string) ([]datastore.Expected, error) {
	volumes, err := s.Volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []datastore.Expected
	for _, v := range volumes {
		if v.Spec.Datastore == name {
			out = append(out, datastore.Expect(datastore.FromRecord(v), v.Status.Worker, v.Spec.Deletion))
		}
	}
	snapshots, err := s.Snapshots.List(ctx)
	for _, s := range snapshots {
		if s.Spec.Datastore == name {
			out = append(out, datastore.Expect(datastore.FromSnapshot(s), s.Status.Worker, s.Spec.Deletion))
		}
	}
	return out, err
}

func (r Report) write(out io.Writer, format string) error {
	if format == parts.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	for _, u := range r.Unavailable {
		if _, err := fmt.Fprintf(out, "Datastore %s could not be looked at: %s\n", u.Datastore, u.Message); err != nil {
			return err
		}
	}
	if len(r.Orphans) == 0 {
		where := "the datastores"
		if len(r.Unavailable) > 0 {
			where = "those that could be looked at"
		}
		_, err := fmt.Fprintf(out, "No orphans: what lies on %s and what the records say is the same.\n", where)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, "WHAT\tKIND\tNAME\tDATASTORE\tSIZE\tAGE\tLOCATION\tNOTE"); err != nil {
		return err
	}
	for _, o := range r.Orphans {
		kind := "volume"
		if o.Snapshot {
			kind = "snapshot"
		}
		age := "-"
		if !o.Since.IsZero() {
			age = duration.HumanDuration(time.Duration(o.AgeSeconds) * time.Second)
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			o.Kind, kind, o.Name, o.Datastore, o.Size.String(), age, o.Location, o.Message); err != nil {
			return err
		}
	}
	return w.Flush()
}
