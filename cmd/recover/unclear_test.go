package recover_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

func TestWhatIsForeignOrUnclearIsListedAndLeftAlone(t *testing.T) {
	onRowsThat(t, func(c rows.Can) bool { return c.Images }, func(t *testing.T, r *rig) {
		ctx := t.Context()
		ids := map[string]string{}
		folders := map[string]string{}
		for _, name := range []string{"good", "broken", "twice", "link", "gone"} {
			v := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: in()})
			must(t, v.Create(ctx))
			content, err := r.Content(v.ID)
			must(t, err)
			ids[name], folders[name] = v.ID, filepath.Dir(content.Path)
		}
		r.lose(t)
		must(t, os.WriteFile(filepath.Join(folders["broken"], "meta.json"), []byte("{"), 0o600))
		must(t, os.CopyFS(folders["twice"]+".old", os.DirFS(folders["twice"])))
		must(t, os.Rename(filepath.Join(folders["link"], "disk.img"), filepath.Join(folders["link"], "moved.img")))
		must(t, os.Symlink("moved.img", filepath.Join(folders["link"], "disk.img")))
		must(t, os.Remove(filepath.Join(folders["gone"], "disk.img")))
		before, err := r.Camera().Take()
		must(t, err)

		out, code := r.command(t, "recover", "--datastores", r.File, "--state-dir", r.StateDir, "--cluster-id", "another", "--host", r.Host, "--apply")
		if code == 0 || !strings.Contains(lineOf(out, pool), "foreign") || !strings.Contains(out, r.ClusterID) {
			t.Errorf("another cluster's recovery ended with %d:\n%s", code, out)
		}
		if _, err := os.Stat(r.StateDir); !os.IsNotExist(err) {
			t.Errorf("it made a state directory: %v", err)
		}
		out = r.recover(t, "--apply")
		for name, want := range map[string]string{
			ids["good"]: "recover", ids["broken"]: "unclear", ids["twice"] + "-": "recover", folders["twice"] + ".old": "unclear",
			ids["link"]: "unclear", ids["gone"]: "recover",
		} {
			if !strings.HasPrefix(lineOf(out, filepath.Base(name)), want) {
				t.Errorf("%s is not %q in\n%s", name, want, out)
			}
		}
		orphans, code := r.command(t, "orphans", "--datastores", r.File, "--state-dir", r.StateDir)
		for name, want := range map[string]string{ids["broken"]: "Unclear", folders["twice"] + ".old": "Unclear", ids["gone"]: "NoStorage", ids["link"]: "NoRecord"} {
			if code != 0 || !strings.HasPrefix(lineOf(orphans, filepath.Base(name)), want) {
				t.Errorf("%s is not %q (%d) in\n%s", name, want, code, orphans)
			}
		}
		after, err := r.Camera().Take()
		must(t, err)
		if diff := before.Diff(after); diff != "" {
			t.Errorf("the storage was changed:\n%s", diff)
		}
		must(t, r.Start(ctx))
		must(t, r.serving(t))
		listed, err := r.Listed(ctx)
		must(t, err)
		if len(listed) != 3 || listed[ids["good"]] == nil || listed[ids["twice"]] == nil {
			t.Errorf("the driver lists %v", listed)
		}
	})
}

func TestADatastoreThatIsAwayIsRecoveredWhenItIsBack(t *testing.T) {
	for _, row := range rows.All() {
		t.Run(row.Name(), func(t *testing.T) {
			ctx := t.Context()
			other := row.Setup(t)
			r := &rig{Storage: row.Setup(t)}
			r.Driver = harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{r.Datastore(pool), other.Datastore("other")}})
			must(t, r.serving(t))
			here := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: in()})
			away := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: map[string]string{"datastore": "other"}})
			must(t, inOrder(ctx, here.Create, away.Create))
			listing := r.listing(t)
			r.lose(t)
			bringBack := other.TakeAway(t)
			out, code := r.command(t, "recover", "--datastores", r.File, "--state-dir", r.StateDir, "--cluster-id", r.ClusterID, "--apply")
			verdict, advice := "no pool", "mount its disk"
			if !strings.HasPrefix(row.Name(), "directory") { // no mount point stays
				verdict, advice = "unavailable", "there"
			}
			if code == 0 || !strings.HasPrefix(lineOf(out, "other"), verdict) || !strings.Contains(out, "1 recovered") || !strings.Contains(out, advice) {
				t.Errorf("while it is away (%d):\n%s", code, out)
			}
			bringBack()
			if out := r.recover(t, "--apply"); !strings.Contains(out, "1 recovered; left as they are: 1 recorded") {
				t.Errorf("when it is back:\n%s", out)
			}
			must(t, r.Start(ctx))
			must(t, r.serving(t))
			if now := r.listing(t); now != listing {
				t.Errorf("before:\n%s\nnow:\n%s", listing, now)
			}
			must(t, inOrder(ctx, here.Delete, away.Delete))
		})
	}
}
