package controller_test

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// finds sets what the worker says of a volume.
func (r *rig) finds(t *testing.T, id string, set func(*v1alpha1.WorkerStatus)) {
	t.Helper()
	if _, err := store.ChangeStatus(t.Context(), r.store.Volumes, id, func(v *v1alpha1.DatastoreVolume) error {
		set(&v.Status.Worker)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) switchOff(t *testing.T) {
	t.Helper()
	r.pool(t, "large", func(p *v1alpha1.PoolStatus) {
		p.Health, p.Findings = v1alpha1.Unavailable, []v1alpha1.Finding{{Reason: "Inactive", Message: "set spec.state"}}
	})
}

func TestHealth(t *testing.T) {
	orphan := func(o v1alpha1.Orphan) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			r.pool(t, "large", func(p *v1alpha1.PoolStatus) { p.Orphans = []v1alpha1.Orphan{o} })
		}
	}
	failing := func(reason string) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			if _, err := store.Change(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
				v.Spec.Size = v1alpha1.Bytes(2 * gib)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			r.finds(t, "v", func(w *v1alpha1.WorkerStatus) { w.Failure = &v1alpha1.Failure{Reason: reason, Message: "it failed"} })
		}
	}
	for name, c := range map[string]struct {
		given func(*testing.T, *rig)
		want  string // status/reason of each problem
		says  string
	}{
		"nothing is wrong": {nil, "", ""},
		"its pool is unavailable": {func(t *testing.T, r *rig) {
			r.pool(t, "large", func(p *v1alpha1.PoolStatus) {
				p.Health, p.Findings = v1alpha1.Unavailable, []v1alpha1.Finding{{Reason: "X", Message: "mount /srv/large"}}
				p.Orphans = []v1alpha1.Orphan{{Kind: v1alpha1.NoStorage, Name: "v"}} // of an earlier look
			})
		}, "INACCESSIBLE/PoolUnavailable", "mount /srv/large"},
		"its datastore is switched off": {func(t *testing.T, r *rig) { r.switchOff(t) }, "INACCESSIBLE/PoolUnavailable", "spec.state"},
		"its datastore is switched off while it is mounted": {func(t *testing.T, r *rig) {
			r.switchOff(t)
			if _, err := store.ChangeStatus(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
				v.Status.Nodes = map[string]v1alpha1.NodeStatus{node: {}}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}, "DEGRADED/DatastoreInactive", "spec.state"},
		"its host reports no pool": {func(t *testing.T, r *rig) {
			if _, err := store.ChangeStatus(t.Context(), r.store.Hosts, node, func(h *v1alpha1.DatastoreHost) error {
				h.Status.Pools = nil
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}, "INACCESSIBLE/PoolNotReported", "is the driver running"},
		"a pool that is nearly full is no matter of its volumes": {func(t *testing.T, r *rig) {
			r.pool(t, "large", func(p *v1alpha1.PoolStatus) { p.Health = v1alpha1.Warning })
		}, "", ""},
		"its storage is missing":            {orphan(v1alpha1.Orphan{Kind: v1alpha1.NoStorage, Name: "v", Location: "volumes/v-1"}), "DATA_LOSS/StorageMissing", "volumes/v-1"},
		"a snapshot of its name is missing": {orphan(v1alpha1.Orphan{Kind: v1alpha1.NoStorage, Name: "v", Snapshot: true}), "", ""},
		"a mark of its name has no record":  {orphan(v1alpha1.Orphan{Kind: v1alpha1.NoRecord, Name: "v"}), "", ""},
		"its worker found problems": {func(t *testing.T, r *rig) {
			r.finds(t, "v", func(w *v1alpha1.WorkerStatus) {
				w.Problems = []v1alpha1.Problem{
					{Status: "DATA_LOSS", Reason: "ImageCut", Message: "shorter than it was"},
					{Status: "DEGRADED", Reason: "ImageCut", Message: "a"},
					{Status: "DATA_LOSS", Reason: "ImageCut", Message: "said twice"},
				}
			})
		}, "DATA_LOSS/ImageCut DEGRADED/ImageCut", "shorter"},
		"its worker can't grow it":        {failing("Exhausted"), "DEGRADED/WorkFailed", "it failed"},
		"its worker can't reach it":       {failing("Unavailable"), "INACCESSIBLE/WorkFailed", "it failed"},
		"its worker found its bytes gone": {failing("DataLoss"), "DATA_LOSS/WorkFailed", "it failed"},
		"a failure that was taken back": {func(t *testing.T, r *rig) {
			r.finds(t, "v", func(w *v1alpha1.WorkerStatus) {
				w.Failure = &v1alpha1.Failure{Reason: "Exhausted", Message: "it failed"}
			})
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
				if v.Status.Worker.Phase != v1alpha1.Ready {
					obedient(v)
				}
			})
			r.create(t, ask("v", gib, "datastore", "large"))
			if c.given != nil {
				c.given(t, r)
			}
			h, err := r.Health(t.Context(), "v")
			if err != nil || h.ID != "v" {
				t.Fatalf("%+v, %v", h, err)
			}
			var got, says []string
			for _, p := range h.Problems {
				got, says = append(got, string(p.Status)+"/"+p.Reason), append(says, p.Message)
			}
			if strings.Join(got, " ") != c.want || !strings.Contains(strings.Join(says, " "), c.says) {
				t.Errorf("got %q: %q", got, says)
			}
			page, err := r.ListHealth(t.Context(), "", 0)
			if err != nil || (len(page.Entries) > 0) != (c.want != "") {
				t.Errorf("listed are %+v, %v", page.Entries, err)
			}
		})
	}
}

func TestHealthOfWhatIsNotThere(t *testing.T) {
	r := newRig(t, obedient)
	_, err := r.Health(t.Context(), "v")
	want(t, err, fault.NotFound, `"v"`)
	_, err = r.Health(t.Context(), "")
	want(t, err, fault.Invalid)
}

func TestListHealthPagesOverTheAbnormalOnly(t *testing.T) {
	r := newRig(t, obedient)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		r.create(t, ask(id, gib, "datastore", "large"))
	}
	for _, id := range []string{"b", "c", "e"} {
		r.finds(t, id, func(w *v1alpha1.WorkerStatus) {
			w.Problems = []v1alpha1.Problem{{Status: "DEGRADED", Reason: "X", Message: "x"}}
		})
	}
	for _, c := range []struct {
		token string
		max   int
		want  string
		next  string
	}{{"", 0, "bce", ""}, {"", 2, "bc", "after:c"}, {"after:c", 2, "e", ""}, {"", 3, "bce", ""}, {"after:e", 0, "", ""}} {
		page, err := r.ListHealth(t.Context(), c.token, c.max)
		got := ""
		for _, h := range page.Entries {
			got += h.ID
		}
		if err != nil || got != c.want || page.Next != c.next {
			t.Errorf("%+v: got %q, next %q, %v", c, got, page.Next, err)
		}
	}
	_, err := r.ListHealth(t.Context(), "nonsense", 0)
	want(t, err, fault.Busy)
	_, err = r.ListHealth(t.Context(), "", -1)
	want(t, err, fault.Invalid)
}

func TestOverviewCountsOrphans(t *testing.T) {
	r := newRig(t, obedient)
	r.pool(t, "small", func(p *v1alpha1.PoolStatus) { p.Orphans = make([]v1alpha1.Orphan, 3) })
	all, err := r.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if (d.Orphans == 3) != (d.Name == "small") {
			t.Errorf("%s has %d orphans", d.Name, d.Orphans)
		}
	}
}
