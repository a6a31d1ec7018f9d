package storetest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// shareTests are about who may touch which record, and about all at once.
func shareTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"a record that was returned stays as it was":             testReturned[T, P],
		"a record that was given stays the caller's":             testGiven[T, P],
		"a list that was returned is the caller's":               testListed[T, P],
		"records can be read by many while they are written":     testReaders[T, P],
		"what is stored comes back as it was given, to the byte": testFidelity[T, P],
	}
}

func testReturned[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	returned := map[string]*T{"Create": s.held(t, "r", "example.com/a"), "Get": s.got(t, "r")}
	w := s.watched(t, "r")
	returned["Watch"] = await(t, w, func(e store.Event[T]) bool { return e.Record != nil }).Record
	s.eventuallyLists(t, "r")
	records, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	returned["List"] = records[0]
	returned["Update"] = s.updated(t, "r", func(r P) { r.GetLabels()["tier"] = "iron" })
	returned["UpdateStatus"] = s.statusUpdated(t, "r", 1)
	copies := map[string]*T{}
	for call, record := range returned {
		copies[call] = P(record).DeepCopy()
	}
	for n := range 5 {
		s.updated(t, "r", func(r P) {
			r.GetLabels()["tier"] = text(n)
			r.GetAnnotations()["more"] = text(n)
			s.setSpec(r, n)
		})
		s.statusUpdated(t, "r", n+10)
	}
	s.deleted(t, "r")
	s.updated(t, "r", func(r P) { r.SetFinalizers(nil) })
	for call, record := range returned {
		wantEqual(t, "what "+call+" returned", record, copies[call])
	}
}

func testGiven[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	spoil := func(r P) {
		r.GetLabels()["tier"] = "spoiled"
		r.GetFinalizers()[0] = "example.com/spoiled"
		s.setSpec(r, 99)
		s.setStatus(r, 99)
	}
	given := s.record("r")
	P(given).SetFinalizers([]string{"example.com/a"})
	made := P(s.creates(t, given)).DeepCopy()
	spoil(given)
	wantEqual(t, "what was created", s.got(t, "r"), made)

	altered := P(made).DeepCopy()
	P(altered).GetLabels()["tier"] = "iron"
	s.setSpec(altered, 1)
	written, err := s.Update(t.Context(), altered)
	if err != nil {
		t.Fatal(err)
	}
	after := P(written).DeepCopy()
	spoil(altered)
	wantEqual(t, "what was updated", s.got(t, "r"), after)

	altered = P(after).DeepCopy()
	s.setStatus(altered, 2)
	if written, err = s.UpdateStatus(t.Context(), altered); err != nil {
		t.Fatal(err)
	}
	after = P(written).DeepCopy()
	spoil(altered)
	wantEqual(t, "what has another status", s.got(t, "r"), after)
}

func testListed[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "a")
	s.created(t, "b")
	s.eventuallyLists(t, "a", "b")
	records, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records[0], records[1] = records[1], nil
	s.eventuallyLists(t, "a", "b")
}

// testReaders is for the race detector: readers look at all of a record, as logging does.
func testReaders[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "r")
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	look := func(r *T) {
		_ = s.quantity(r)
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("marshal: %v", err)
		}
	}
	for range 2 {
		w := s.watched(t, "")
		readers.Go(func() {
			for event, err := w.Next(ctx); err == nil; event, err = w.Next(ctx) {
				look(event.Record)
			}
		})
		readers.Go(func() {
			for record, err := s.Get(ctx, "r"); err == nil; record, err = s.Get(ctx, "r") {
				look(record)
			}
		})
		readers.Go(func() {
			for records, err := s.List(ctx); err == nil; records, err = s.List(ctx) {
				for _, record := range records {
					look(record)
				}
			}
		})
	}
	for n := range 10 {
		s.updated(t, "r", func(r P) { s.setSpec(r, n); r.GetLabels()["n"] = text(n) })
		s.statusUpdated(t, "r", n)
	}
	stop()
	readers.Wait()
}

func testFidelity[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	record := s.record("r")
	notes := map[string]string{
		"empty": "", "spaces": "  a  b  ", "lines": "a\nb\r\n\tc", "json": `{"a":["b\\c\"",null,1e9]}`, "html": "<a&b>\u2028",
		"unicode": "ünïcödé 🙂 \u202e", "control": "\x01\x1f\x7f", "number": "18446744073709551615",
	}
	P(record).SetAnnotations(notes)
	s.creates(t, record)
	wantEqual(t, "the annotations", P(s.got(t, "r")).GetAnnotations(), notes)
}
