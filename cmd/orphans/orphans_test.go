package orphans

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

func TestTheListSaysWhatItKnowsAndWhatItDoesNot(t *testing.T) {
	away := Unavailable{"away", "no disk"}
	lost := Orphan{Datastore: "fast", AgeSeconds: 3 * 86400, Orphan: v1alpha1.Orphan{
		Kind: v1alpha1.NoRecord, Name: "lost", Location: "volumes/lost-1", Size: v1alpha1.Bytes(1 << 20), Since: metav1.NewTime(time.Unix(1, 0)), Snapshot: true,
	}}
	for name, c := range map[string]struct {
		report Report
		want   []string
	}{
		"nothing to tell":              {Report{}, []string{"No orphans: what lies on the datastores"}},
		"a datastore that is away":     {Report{Unavailable: []Unavailable{away}}, []string{"away could not be looked at: no disk", "No orphans: what lies on those that could be looked at"}},
		"an orphan":                    {Report{Orphans: []Orphan{lost}}, []string{"NoRecord  snapshot  lost  fast       1Mi   3d   volumes/lost-1"}},
		"one of which no age is known": {Report{Orphans: []Orphan{{Orphan: v1alpha1.Orphan{Kind: v1alpha1.Unclear, Name: "x", Message: "no mark"}}}}, []string{"-", "no mark"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := c.report.write(&out, parts.Table); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
}

func TestWhatIsDamagedIsListedBesideTheOrphans(t *testing.T) {
	v := datastore.Volume{ID: "v", UID: "11111111", Bytes: 100}
	found := datastore.Found{
		Volume: v, State: datastore.FoundWhole, Location: "volumes/v-11111111",
		Problems: []v1alpha1.Problem{{Status: "DEGRADED", Reason: "Sparse", Message: "holes"}},
	}
	list := rows(datastore.Compare([]datastore.Found{found}, []datastore.Expected{{Volume: v, Location: found.Location, There: true}}))
	if len(list) != 1 || list[0].Kind != Damaged || list[0].Message != "holes" || list[0].Size.Value() != 100 {
		t.Errorf("rows %+v", list)
	}
}

func TestOptionsNameEachFlagThatIsWrong(t *testing.T) {
	for flag, o := range map[string]Options{
		"--datastores is missing": {StateDir: "d", Format: parts.JSON},
		"--state-dir is missing":  {Datastores: "f", Format: parts.JSON},
		`--output "xml"`:          {Datastores: "f", StateDir: "d", Format: "xml"},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
