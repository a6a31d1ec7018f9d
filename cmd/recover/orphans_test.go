package recover_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/cmd/orphans"
	"github.com/datastore-csi/datastore-csi/cmd/status"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// kinds are the orphans of a list by the names of volumes.
func kinds(list []v1alpha1.Orphan) map[string]v1alpha1.OrphanKind {
	out := map[string]v1alpha1.OrphanKind{}
	for _, o := range list {
		out[o.Name] = o.Kind
	}
	return out
}

func (r *rig) status(t testing.TB) status.Report {
	t.Helper()
	out, code := r.command(t, "status", "--metrics-address", r.MetricsAddress(), "-o", "json")
	if code != 0 {
		t.Fatalf("status ended with %d: %s", code, out)
	}
	var report status.Report
	must(t, json.Unmarshal([]byte(out), &report))
	return report
}

// remove takes a volume's storage away behind the driver's back.
func (r *rig) remove(t testing.TB, id string) {
	t.Helper()
	if r.Can().Images {
		image, err := r.Content(id)
		must(t, err)
		must(t, os.RemoveAll(filepath.Dir(image.Path))) // the volume's folder
		return
	}
	losses := r.Losses()
	i := slices.IndexFunc(losses, func(l rows.Loss) bool { return l.Gone })
	if i < 0 {
		t.Fatal("such storage can't lose a volume")
	}
	losses[i].Do(t, id)
}

func TestOrphansAreToldWhileTheDriverRunsAndWhileItIsStopped(t *testing.T) {
	onEachRow(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		lost := r.Volume(t, harness.Claim{Bytes: 16 * mib, Block: true, Parameters: in("provisioning", "thick")})
		must(t, lost.Create(ctx))
		total := func() int64 {
			t.Helper()
			bytes, err := r.Available(ctx, pool)
			must(t, err)
			return bytes
		}
		before := total()
		r.lose(t)
		must(t, r.Start(ctx)) // on an empty state: the volume has no record any more
		must(t, r.serving(t))
		gone := r.Volume(t, harness.Claim{Bytes: 8 * mib, Block: true, Parameters: in()})
		must(t, harness.Retry(ctx, gone.Create))
		if now := total(); now > before-8*mib+mib { // file systems take and give some themselves
			t.Errorf("%d bytes can be promised, before it were %d: what has no record was promised again", now, before)
		}
		r.remove(t, gone.ID)
		must(t, r.Restart(ctx)) // an audit at the start
		var report status.Report
		must(t, harness.Eventually(ctx, settle, func() error {
			report = r.status(t)
			if got := kinds(report.Datastores[0].Orphans); got[lost.ID] != v1alpha1.NoRecord || got[gone.ID] != v1alpha1.NoStorage || len(got) != 2 {
				return fmt.Errorf("status tells %v", got)
			}
			if len(report.Abnormal) != 1 || report.Abnormal[0].Name != gone.ID || report.Abnormal[0].Problems[0].Status != "DATA_LOSS" {
				return fmt.Errorf("abnormal %+v", report.Abnormal)
			}
			return nil
		}))
		if d := report.Datastores[0]; d.Health != v1alpha1.Warning || len(d.Findings) != 2 || d.Volumes != 1 || report.Host != r.Host || report.ClusterID != r.ClusterID {
			t.Errorf("report %+v", report)
		}
		families, err := r.Metrics(ctx)
		must(t, err)
		sum := 0.0
		for _, m := range families["datastore_csi_orphans"].GetMetric() {
			sum += m.GetGauge().GetValue()
		}
		if sum != 2 {
			t.Errorf("the metric tells %v orphans", sum)
		}
		table, code := r.command(t, "status", "--metrics-address", r.MetricsAddress())
		for _, word := range []string{pool, "Warning", lost.ID, gone.ID, report.Abnormal[0].Problems[0].Reason, "Orphans"} {
			if code != 0 || !strings.Contains(table, word) {
				t.Errorf("the table (%d) does not say %q:\n%s", code, word, table)
			}
		}
		for _, command := range [][]string{
			{"orphans", "--datastores", r.File, "--state-dir", r.StateDir},
			{"recover", "--datastores", r.File, "--state-dir", r.StateDir, "--cluster-id", r.ClusterID},
		} {
			if out, code := r.command(t, command...); code == 0 || !strings.Contains(out, "running") {
				t.Errorf("%s beside a running driver ended with %d: %s", command[0], code, out)
			}
		}
		must(t, r.Stop())
		photo, err := r.Camera().Take()
		must(t, err)
		out, code := r.command(t, "orphans", "--datastores", r.File, "--state-dir", r.StateDir, "-o", "json")
		var list struct{ Orphans []orphans.Orphan }
		must(t, json.Unmarshal([]byte(out), &list))
		if code != 0 || len(list.Orphans) != 2 {
			t.Fatalf("orphans ended with %d: %s", code, out)
		}
		for _, o := range list.Orphans {
			size := map[string]int64{lost.ID: 16 * mib, gone.ID: 8 * mib}[o.Name]
			if o.Datastore != pool || o.AgeSeconds < 0 || o.AgeSeconds > 3600 || o.Size.Value() != size || o.Location == "" {
				t.Errorf("orphan %+v", o)
			}
		}
		table, code = r.command(t, "orphans", "--datastores", r.File, "--state-dir", r.StateDir)
		if code != 0 || !strings.Contains(lineOf(table, lost.ID), "NoRecord") || !strings.Contains(lineOf(table, gone.ID), "NoStorage") {
			t.Errorf("orphans ended with %d:\n%s", code, table)
		}
		now, err := r.Camera().Take()
		must(t, err)
		if diff := photo.Diff(now); diff != "" {
			t.Errorf("looking changed something:\n%s", diff)
		}

		r.recover(t, "--apply") // gives the one its record; the other waits for its backup, or its end
		must(t, r.Start(ctx))
		must(t, r.serving(t))
		must(t, inOrder(ctx, lost.Delete, gone.Delete))
		r.keptOnly(t)
		must(t, harness.Eventually(ctx, settle, func() error {
			if report := r.status(t); len(report.Datastores[0].Orphans) > 0 || len(report.Abnormal) > 0 {
				return fmt.Errorf("status still tells %+v", report)
			}
			return nil
		}))
	})
}
