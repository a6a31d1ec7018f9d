package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

func sample() Report {
	made := time.Unix(1700000000, 0)
	r := Report{
		Version: "1", Host: "node-1", ClusterID: "red",
		Datastores: []Datastore{
			{Name: "fast", Type: "directory", Health: v1alpha1.Healthy, Total: 1 << 40, Used: 512, Available: 3 << 29, Volumes: 7},
			{
				Name: "slow", Type: "directory", Health: v1alpha1.Warning,
				Findings: []v1alpha1.Finding{{Reason: "Orphans", Message: "look"}},
				Orphans: []v1alpha1.Orphan{
					{Kind: v1alpha1.NoRecord, Name: "lost", Location: "volumes/lost-1", Size: v1alpha1.Bytes(1 << 20), Since: metav1.NewTime(made)},
					{Kind: v1alpha1.Unclear, Name: "stranger", Location: "volumes/stranger", Message: "no mark"},
				},
			},
		},
	}
	r.add(Object{"volume", "well", "fast"}, v1alpha1.WorkerStatus{Phase: v1alpha1.Ready})
	r.add(Object{"volume", "bad", "fast"}, v1alpha1.WorkerStatus{
		Phase: v1alpha1.Ready, Problems: []v1alpha1.Problem{{Status: "DATA_LOSS", Reason: "ImageMissing", Message: "it is gone"}},
		Failure: &v1alpha1.Failure{Reason: "Unavailable", Message: "cable pulled"},
	})
	r.add(Object{"snapshot", "slowly", "fast"}, v1alpha1.WorkerStatus{
		Phase: v1alpha1.Creating, Progress: &v1alpha1.Progress{Done: v1alpha1.Bytes(1 << 28), Total: v1alpha1.Bytes(1 << 30)},
	})
	return r
}

// line is the first line of a text that begins with a word.
func line(text, word string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, word) {
			return strings.Join(strings.Fields(l), " ")
		}
	}
	return ""
}

func TestTheTableSaysWhatWantsAttention(t *testing.T) {
	var out strings.Builder
	if err := sample().write(&out, parts.Table, time.Unix(1700000000+3*86400, 0)); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{
		"host":     "host node-1, cluster red, version 1",
		"fast":     "fast directory Healthy 1.0Ti 512B 1.5Gi 0B 7 0",
		"slow ":    "slow directory Warning 0B 0B 0B 0B 0 2",
		"Orphans":  "Orphans slow look",
		"volume":   "volume bad fast ImageMissing it is gone",
		"snapshot": "snapshot slowly fast 256.0Mi 1.0Gi 25",
		"NoRecord": "NoRecord lost slow 1.0Mi 3d volumes/lost-1",
		"Unclear":  "Unclear stranger slow 0B - volumes/stranger no mark",
	} {
		if got := line(out.String(), word); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if strings.Contains(out.String(), "well") || strings.Count(out.String(), "\nvolume") != 2 {
		t.Errorf("the table:\n%s", out.String())
	}
}

func TestWhatIsServedIsWhatIsAskedFor(t *testing.T) {
	good := httptest.NewServer(Handler(func(context.Context) (Report, error) { return sample(), nil }))
	defer good.Close()
	var out strings.Builder
	o := Options{Address: good.Listener.Addr().String(), Format: parts.JSON, Out: &out, Now: time.Now}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Datastores) != 2 || got.Copies[0].Done != 1<<28 || got.Abnormal[0].Failure.Message != "cable pulled" || got.Datastores[1].Orphans[0].Name != "lost" {
		t.Errorf("got %+v", got)
	}
	bad := httptest.NewServer(Handler(func(context.Context) (Report, error) { return Report{}, errors.New("the store is closed") }))
	defer bad.Close()
	o.Address = bad.Listener.Addr().String()
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a driver that can't tell: %v", err)
	}
	bad.Close()
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("no driver: %v", err)
	}
}

func TestOptionsNameEachFlagThatIsWrong(t *testing.T) {
	for flag, o := range map[string]Options{
		"--metrics-address is missing": {Format: parts.Table},
		`--metrics-address "here"`:     {Address: "here", Format: parts.Table},
		`--output "xml"`:               {Address: "127.0.0.1:1", Format: "xml"},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
