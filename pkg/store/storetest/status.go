package storetest

import (
	"errors"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// statusTests are about UpdateStatus, Change and ChangeStatus.
func statusTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"an update of the status writes the status only":         testStatus[T, P],
		"spec and status can be written by turns":                testTurns[T, P],
		"a hundred changes at once lose nothing":                 testChanges[T, P],
		"changes of spec and status at once lose nothing":        testMixedChanges[T, P],
		"a change that finds all as it should be writes nothing": testUnchanged[T, P],
		"a change whose function fails writes nothing":           testFailedChange[T, P],
	}
}

func testStatus[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	if !s.hasStatus() {
		made := s.created(t, "r")
		s.sameBut(t, s.statusUpdated(t, "r", 1), made)
		return
	}
	made := s.created(t, "r")
	altered := P(made).DeepCopy()
	s.setStatus(altered, 6)
	want := P(altered).DeepCopy()
	s.setSpec(altered, 5)
	P(altered).SetLabels(map[string]string{"tier": "iron"})
	P(altered).SetFinalizers([]string{"example.com/a"})
	P(altered).SetGeneration(17)
	after, err := s.UpdateStatus(t.Context(), altered)
	if err != nil {
		t.Fatal(err)
	}
	s.sameBut(t, after, want)
	wantEqual(t, "the generation", P(after).GetGeneration(), int64(1))
	wantEqual(t, "the UID", P(after).GetUID(), P(made).GetUID())
	if P(after).GetResourceVersion() == P(made).GetResourceVersion() {
		t.Errorf("the version is still %s", P(after).GetResourceVersion())
	}
	wantEqual(t, "what Get returns", s.got(t, "r"), after)
}

func testTurns[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "r")
	for n := 1; n <= 5; n++ {
		s.updated(t, "r", func(r P) { s.setSpec(r, n); r.SetLabels(map[string]string{"turn": text(n)}) })
		s.statusUpdated(t, "r", 10*n)
		record := s.got(t, "r")
		wantEqual(t, "the label", P(record).GetLabels()["turn"], text(n))
		if s.hasSpec() {
			wantEqual(t, "the spec", s.spec(record), n)
			wantEqual(t, "the generation", P(record).GetGeneration(), int64(n+1))
		}
		if s.hasStatus() {
			wantEqual(t, "the status", s.status(record), 10*n)
		}
	}
}

// count raises a number that a record carries.
func count[P interface {
	GetAnnotations() map[string]string
	SetAnnotations(map[string]string)
}](r P) {
	notes := r.GetAnnotations()
	notes["count"] = text(number(notes["count"]) + 1)
	r.SetAnnotations(notes)
}

func testChanges[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	const callers = 100
	s.created(t, "r")
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := store.Change[T, P](t.Context(), s.Table, "r", func(r *T) error { count(P(r)); return nil }); err != nil {
				t.Errorf("change: %v", err)
			}
		})
	}
	wg.Wait()
	wantEqual(t, "the count", P(s.got(t, "r")).GetAnnotations()["count"], text(callers))
}

func testMixedChanges[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	const callers, rounds = 8, 5
	record := s.record("r")
	s.setSpec(record, 0)
	s.setStatus(record, 0)
	s.creates(t, record)
	var wg sync.WaitGroup
	changes := func(change func() error) {
		wg.Go(func() {
			for range rounds {
				if err := change(); err != nil {
					t.Errorf("change: %v", err)
				}
			}
		})
	}
	for range callers {
		changes(func() error {
			_, err := store.Change[T, P](t.Context(), s.Table, "r", func(r *T) error { s.setSpec(r, s.spec(r)+1); count(P(r)); return nil })
			return err
		})
		changes(func() error {
			_, err := store.ChangeStatus[T, P](t.Context(), s.Table, "r", func(r *T) error { s.setStatus(r, s.status(r)+1); return nil })
			return err
		})
	}
	wg.Wait()
	after := s.got(t, "r")
	wantEqual(t, "the count", P(after).GetAnnotations()["count"], text(callers*rounds))
	if s.hasSpec() {
		wantEqual(t, "the spec", s.spec(after), callers*rounds)
		wantEqual(t, "the generation", P(after).GetGeneration(), int64(1+callers*rounds))
	}
	if s.hasStatus() {
		wantEqual(t, "the status", s.status(after), callers*rounds)
	}
}

func testUnchanged[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	after, err := store.Change[T, P](t.Context(), s.Table, "r", func(r *T) error {
		P(r).SetLabels(nil)
		return store.Unchanged()
	})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "what the change returns", after, made)
	wantEqual(t, "what Get returns", s.got(t, "r"), made)
}

func testFailedChange[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	want := errors.New("no")
	_, err := store.ChangeStatus[T, P](t.Context(), s.Table, "r", func(r *T) error {
		s.setStatus(r, 5)
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("got error %v", err)
	}
	wantEqual(t, "what Get returns", s.got(t, "r"), made)
}
