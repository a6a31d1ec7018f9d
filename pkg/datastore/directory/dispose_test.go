package directory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestARetainedVolumeStaysWithAWordInItsMark(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, os.WriteFile(imageOf(path, v), pattern(mib), 0o600))
	keep := datastore.Disposal{Policy: v1alpha1.RetainData, Wipe: v1alpha1.WipeZero}
	must(t, p.Delete(t.Context(), v, keep))
	mark := content(t, filepath.Dir(imageOf(path, v)), "meta.json")
	must(t, p.Delete(t.Context(), v, keep))
	must(t, p.Reclaim(t.Context()))
	if again := content(t, filepath.Dir(imageOf(path, v)), "meta.json"); again != mark || !strings.Contains(mark, `"retained": "`) {
		t.Errorf("the mark was\n%s\nis\n%s", mark, again)
	}
	if content(t, imageOf(path, v)) != string(pattern(mib)) {
		t.Error("it lost its data")
	}
	again := v
	again.UID = "99999999-0000-4000-8000-000000000000" // the same name, a later record
	create(t, p, again)
	got := listed(t, p)
	if got["volumes/"+v.BackendName()].State != datastore.FoundRetained || got["volumes/"+again.BackendName()].State != datastore.FoundWhole {
		t.Errorf("listed %+v", got)
	}
	remove(t, p, again)
	remove(t, p, v) // its record came back, and it was deleted for good
	if len(listed(t, p)) != 0 {
		t.Error("something is left")
	}
}

func TestAnArchivedVolumeHasANameForPeople(t *testing.T) {
	day := time.Date(2026, 3, 4, 23, 30, 0, 0, time.FixedZone("east", -3600)) // the next day in UTC
	for name, c := range map[string]struct {
		change func(*datastore.Volume)
		want   string
	}{
		"claim and namespace":  {func(*datastore.Volume) {}, "team_data_2026-03-05"},
		"no labels":            {func(v *datastore.Volume) { v.Labels = nil }, "my-volume_2026-03-05"},
		"a name that climbs":   {func(v *datastore.Volume) { v.Labels, v.Name = nil, "../../etc/passwd" }, "etc-passwd_2026-03-05"},
		"a name in Unicode":    {func(v *datastore.Volume) { v.Labels, v.Name = nil, "日本" }, "pvc-1_2026-03-05"},
		"a name of 4 KiB":      {func(v *datastore.Volume) { v.Labels, v.Name = nil, strings.Repeat("x", 4096) }, strings.Repeat("x", 63) + "_2026-03-05"},
		"a claim like options": {func(v *datastore.Volume) { v.Labels["datastore-csi.io/pvc-name"] = "--rf" }, "team_rf_2026-03-05"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			cfg := config(t, path)
			cfg.Tools.Now = func() time.Time { return day }
			p := open(t, cfg)
			v := thin("pvc-1", mib)
			v.Name = "my volume"
			v.Labels = map[string]string{"datastore-csi.io/pvc-name": "data", "datastore-csi.io/pvc-namespace": "team"}
			c.change(&v)
			second := v
			second.UID = "99999999-0000-4000-8000-000000000000"
			for _, v := range []datastore.Volume{v, second} {
				create(t, p, v)
				must(t, os.WriteFile(imageOf(path, v), []byte(v.UID), 0o600))
				must(t, os.Truncate(imageOf(path, v), mib))
				must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.ArchiveData}))
				must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.ArchiveData}))
			}
			must(t, p.Reclaim(t.Context()))
			got := listed(t, p)
			for location, v := range map[string]datastore.Volume{"archived/" + c.want: v, "archived/" + c.want + "-2": second} {
				f := got[location]
				if f.State != datastore.FoundArchived || f.Volume.UID != v.UID || len(f.Problems) > 0 || !strings.HasPrefix(content(t, path, location, "disk.img"), v.UID) {
					t.Errorf("%s is %+v", location, f)
				}
			}
			if len(got) != 2 {
				t.Errorf("listed %+v", got)
			}
		})
	}
}

func TestWhatIsInUseIsNeitherRetainedNorArchived(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	dir := t.TempDir()
	run(t, "mkfs.ext4", "-q", imageOf(path, v))
	run(t, "mount", attached(t, p, v), dir)
	t.Cleanup(func() { unmount(t, dir) })
	base := under(t, path)
	for _, policy := range []v1alpha1.DeletePolicy{v1alpha1.RetainData, v1alpha1.ArchiveData, v1alpha1.DeleteData} {
		wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: policy, Wipe: v1alpha1.WipeDiscard}), fault.Precondition, "pvc-1")
	}
	wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: "Forget"}), fault.Invalid, "Forget")
	if after := under(t, path); after != base {
		t.Errorf("something was done:\n%s", after)
	}
}
