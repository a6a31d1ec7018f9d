package storetest

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// deleteTests are about Delete and finalizers.
func deleteTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"a record without finalizers is gone at once":             testDelete[T, P],
		"a record is deleted only under the UID that was meant":   testDeleteUID[T, P],
		"a record with finalizers is marked and stays":            testMark[T, P],
		"a marked record is gone with its last finalizer":         testLastFinalizer[T, P],
		"a marked record takes no new finalizer":                  testNewFinalizer[T, P],
		"a marked record can still be written":                    testWriteMarked[T, P],
		"an update neither marks a record nor takes the mark off": testMarkByUpdate[T, P],
		"an unmarked record may lose all its finalizers and stay": testUnmarked[T, P],
	}
}

func testDelete[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	wantKind(t, s.Delete(t.Context(), "r", ""), fault.NotFound)
	s.created(t, "r")
	s.created(t, "other")
	s.deleted(t, "r")
	s.gone(t, "r")
	wantKind(t, s.Delete(t.Context(), "r", ""), fault.NotFound)
	s.eventuallyLists(t, "other")
}

func testDeleteUID[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	first := string(P(s.created(t, "r")).GetUID())
	wantKind(t, s.Delete(t.Context(), "r", "5bd9c7e2-26f8-4df6-96d5-0c3f2d2f0f6a"), fault.Conflict)
	s.got(t, "r")
	if err := s.Delete(t.Context(), "r", first); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Delete(t.Context(), "r", first), fault.NotFound)
	second := s.created(t, "r")
	wantKind(t, s.Delete(t.Context(), "r", first), fault.Conflict)
	wantEqual(t, "the second record", s.got(t, "r"), second)
}

func testMark[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.held(t, "r", "example.com/a")
	s.deleted(t, "r")
	marked := s.got(t, "r")
	m := P(marked)
	if m.GetDeletionTimestamp().IsZero() {
		t.Error("the record is not marked")
	}
	wantEqual(t, "the generation", m.GetGeneration(), int64(2))
	wantEqual(t, "the UID", m.GetUID(), P(made).GetUID())
	if m.GetResourceVersion() == P(made).GetResourceVersion() {
		t.Errorf("the version is still %s", m.GetResourceVersion())
	}
	s.deleted(t, "r")
	s.deleted(t, "r")
	wantEqual(t, "the record that was deleted thrice", s.got(t, "r"), marked)
	_, err := s.Create(t.Context(), s.record("r"))
	wantKind(t, err, fault.Exists)
	wantKind(t, s.Delete(t.Context(), "r", "5bd9c7e2-26f8-4df6-96d5-0c3f2d2f0f6a"), fault.Conflict)
	s.eventuallyLists(t, "r")
}

func testLastFinalizer[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a", "example.com/b")
	s.deleted(t, "r")
	s.updated(t, "r", func(r P) { r.SetFinalizers([]string{"example.com/b"}) })
	left := s.got(t, "r")
	last := s.updated(t, "r", func(r P) { r.SetFinalizers(nil) })
	if last == nil || P(last).GetUID() != P(left).GetUID() || len(P(last).GetFinalizers()) != 0 {
		t.Errorf("the last version is %v", last)
	}
	s.gone(t, "r")
	_, err := s.Update(t.Context(), left)
	wantKind(t, err, fault.NotFound)
	s.eventuallyLists(t)
	anew := P(s.created(t, "r"))
	if anew.GetUID() == P(left).GetUID() || anew.GetDeletionTimestamp() != nil || anew.GetGeneration() != 1 {
		t.Errorf("the record made anew is %v", anew)
	}
}

func testNewFinalizer[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a")
	s.deleted(t, "r")
	marked := s.got(t, "r")
	for _, finalizers := range [][]string{{"example.com/a", "example.com/b"}, {"example.com/b"}} {
		altered := P(marked).DeepCopy()
		P(altered).SetFinalizers(finalizers)
		_, err := s.Update(t.Context(), altered)
		wantKind(t, err, fault.Invalid)
	}
	wantEqual(t, "the record", s.got(t, "r"), marked)
}

func testWriteMarked[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a")
	s.deleted(t, "r")
	s.updated(t, "r", func(r P) { s.setSpec(r, 5); r.SetLabels(map[string]string{"tier": "iron"}) })
	after := s.statusUpdated(t, "r", 6)
	wantEqual(t, "the labels", P(after).GetLabels(), map[string]string{"tier": "iron"})
	if P(after).GetDeletionTimestamp().IsZero() {
		t.Error("the mark is gone")
	}
	if s.hasSpec() {
		wantEqual(t, "the spec", s.spec(after), 5)
		wantEqual(t, "the generation", P(after).GetGeneration(), int64(3))
	}
	if s.hasStatus() {
		wantEqual(t, "the status", s.status(after), 6)
	}
}

func testMarkByUpdate[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	now := P(s.created(t, "other")).GetCreationTimestamp()
	s.held(t, "r", "example.com/a")
	after := P(s.updated(t, "r", func(r P) { r.SetDeletionTimestamp(&now); r.SetLabels(nil) }))
	if after.GetDeletionTimestamp() != nil {
		t.Error("an update marked the record")
	}
	s.deleted(t, "r")
	after = P(s.updated(t, "r", func(r P) { r.SetDeletionTimestamp(nil); r.SetLabels(map[string]string{"a": "b"}) }))
	if after.GetDeletionTimestamp().IsZero() {
		t.Error("an update took the mark off")
	}
}

func testUnmarked[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a")
	after := s.updated(t, "r", func(r P) { r.SetFinalizers(nil) })
	wantEqual(t, "the record", s.got(t, "r"), after)
	s.deleted(t, "r")
	s.gone(t, "r")
}
