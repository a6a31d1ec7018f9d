package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// A datastore whose record is deleted stays for what lies on it, says so, and goes when that is gone.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADatastoreThatIsDeletedIsHeldByItsVolumes(t *testing.T) {
	r := newRig(t, obedient)
	c := controller.New(controller.Config{
		ClusterID: "c", Store: r.store, Types: []datastore.Type{testType()}, Now: time.Now, NewUUID: uuid.NewString, HoldDatastores: true,
	})
	_, err := r.store.Datastores.Create(t.Context(), &v1alpha1.Datastore{
		ObjectMeta: metav1.ObjectMeta{Name: "held"}, Spec: v1alpha1.DatastoreSpec{Type: "test"},
	})
	must(t, err)
	for i := range 12 {
		_, err := r.store.Volumes.Create(t.Context(), &v1alpha1.DatastoreVolume{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("v-%02d", i)}, Spec: v1alpha1.DatastoreVolumeSpec{Datastore: "held"},
		})
		must(t, err)
	}
	_, err = r.store.Snapshots.Create(t.Context(), &v1alpha1.DatastoreSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: v1alpha1.DatastoreSnapshotSpec{Datastore: "held"},
	})
	must(t, err)
	go func() { _ = c.Run(t.Context()) }() // it ends with the test
	until := func(what string, is func(*v1alpha1.Datastore) bool) {
		t.Helper()
		_, err := store.Wait(t.Context(), r.store.Datastores, "held", func(d *v1alpha1.Datastore) (bool, error) { return is(d), nil })
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	says := func(word string) func(*v1alpha1.Datastore) bool {
		return func(d *v1alpha1.Datastore) bool {
			if d == nil {
				return false
			}
			held := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionHeld)
			return held != nil && strings.Contains(held.Message, word)
		}
	}
	until("the finalizer", func(d *v1alpha1.Datastore) bool { return len(d.Finalizers) == 1 })
	must(t, r.store.Datastores.Delete(t.Context(), "held", ""))
	until("what holds it", says("snapshot s, volume v-00, "))
	until("how much more", says(" and 3 more; delete that"))
	for i := range 12 {
		must(t, r.store.Volumes.Delete(t.Context(), fmt.Sprintf("v-%02d", i), ""))
	}
	until("the last one", says(": snapshot s; delete that"))
	must(t, r.store.Snapshots.Delete(t.Context(), "s", ""))
	until("its end", func(d *v1alpha1.Datastore) bool { return d == nil })
	if _, err := r.store.Datastores.Get(t.Context(), "held"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}
