package cluster

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// posted are the events since the last look.
func posted(r *record.FakeRecorder) (all []string) {
	for {
		select {
		case e := <-r.Events:
			all = append(all, e)
		default:
			return all
		}
	}
}

func TestADatastoresEventsAreItsChanges(t *testing.T) {
	recorder := record.NewFakeRecorder(10)
	e := Events{Recorder: recorder}
	var known map[string]string
	for _, c := range []struct {
		health  v1alpha1.Health
		message string
		want    []string
	}{
		{v1alpha1.Healthy, "served by a", nil},
		{v1alpha1.Warning, "81% used", []string{"Warning Warning 81% used"}},
		{v1alpha1.Warning, "82% used", nil}, // a figure that changes is no news
		{v1alpha1.Unavailable, "host a: no marker", []string{"Warning Unavailable host a: no marker"}},
		{v1alpha1.Healthy, "served by a", []string{"Normal Healthy served by a"}},
		{v1alpha1.Healthy, "served by a, b", nil},
	} {
		d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
		d.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: string(c.health), Message: c.message}}
		known = e.datastore(d, known)
		if got := posted(recorder); !slices.Equal(got, c.want) {
			t.Errorf("%s, %s: posted %q, want %q", c.health, c.message, got, c.want)
		}
	}
}

func TestAVolumesEventsAreItsNewProblemsOnItsClaimToo(t *testing.T) {
	recorder := record.NewFakeRecorder(10)
	e := Events{Recorder: recorder}
	deleted := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	v := &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", Labels: map[string]string{"datastore-csi.io/pvc-namespace": "ns", "datastore-csi.io/pvc-name": "data"}},
		Spec:       v1alpha1.DatastoreVolumeSpec{Name: "pvc-1"},
	}
	const lost, onClaim = "Warning Missing it is not there", "Warning Missing volume pvc-1: it is not there"
	var known map[string]bool
	look := func(what string, want ...string) {
		t.Helper()
		known = e.volume(v, known)
		if got := posted(recorder); !slices.Equal(got, want) {
			t.Errorf("%s: posted %q, want %q", what, got, want)
		}
	}
	look("a volume that is well")
	v.Status.Worker.Problems = []v1alpha1.Problem{{Reason: "Missing", Message: "it is not there"}}
	look("a problem", lost, onClaim)
	look("the same problem")
	v.Status.Worker.Problems = nil
	look("none any more")
	v.Status.Worker.Problems = []v1alpha1.Problem{{Reason: "Missing", Message: "it is not there"}}
	v.Labels = nil
	look("again, of no claim", lost)
	v.Status.Worker.Problems, v.DeletionTimestamp = nil, &deleted
	look("its record is deleted", "Warning RecordDeleted "+deletedText)
	v.Spec.Deletion = &v1alpha1.Deletion{}
	look("it is deleted itself")
}
