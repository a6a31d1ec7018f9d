package embedded

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

func TestASettledRecordIsWhatTheFileGivesBack(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600)))
	given := &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: metav1.Now(), Labels: map[string]string{"a": "b"}},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Size: resource.MustParse("1024Mi"), Deletion: &v1alpha1.Deletion{RequestedAt: at, Policy: v1alpha1.DeleteData},
		},
	}
	settled := record.Settle[v1alpha1.DatastoreVolume](given)
	settledWell(t, settled)
	if given.Spec.Deletion.RequestedAt.Nanosecond() != 678 {
		t.Error("the record given was altered")
	}
	status := &v1alpha1.Datastore{Status: v1alpha1.DatastoreStatus{Conditions: []metav1.Condition{{LastTransitionTime: at}}}}
	status.Name = "r"
	settledWell(t, record.Settle[v1alpha1.Datastore](status))
	if text := settled.Spec.Size.String(); text != "1Gi" {
		t.Errorf("the size is %s", text)
	}
}

func settledWell[T any, P store.Record[T]](t *testing.T, settled P) {
	t.Helper()
	value, err := encode[T](settled)
	if err != nil {
		t.Fatal(err)
	}
	back, err := decode[T, P]("r", value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff((*T)(settled), back); diff != "" {
		t.Errorf("the file gives back another record (-settled +read):\n%s", diff)
	}
}
