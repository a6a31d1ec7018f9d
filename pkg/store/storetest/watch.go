package storetest

import (
	"context"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// watchTests are about Watch.
func watchTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"a watch tells of every record that is there":             testWatchInitial[T, P],
		"a watch tells of records that come, change and go":       testWatchChanges[T, P],
		"a watch of one record tells of no other":                 testWatchOne[T, P],
		"a watch of one record tells of it when it comes":         testWatchComing[T, P],
		"a watch tells that a record was marked":                  testWatchMark[T, P],
		"a watch that nobody reads ends up with what is there":    testWatchSlow[T, P],
		"a watch opened during writes misses nothing":             testWatchRace[T, P],
		"watches do not take events from each other":              testWatchTwo[T, P],
		"a watch fails with the context and can be read on":       testWatchContext[T, P],
		"a closed watch fails, and may be closed twice":           testWatchClose[T, P],
		"closing a watch wakes its reader, and leaves the others": testWatchCloseReader[T, P],
	}
}

func testWatchInitial[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	want := map[string]string{}
	for _, name := range numbered(20) {
		want[name] = P(s.created(t, name)).GetResourceVersion()
	}
	w := s.watched(t, "")
	for len(want) > 0 {
		event := next(t, w)
		if event.Record == nil || P(event.Record).GetName() != event.Name {
			t.Fatalf("the watch told of %q: %v", event.Name, event.Record)
		}
		if P(event.Record).GetResourceVersion() == want[event.Name] { // it may tell of an older one first
			delete(want, event.Name)
		}
	}
}

func testWatchChanges[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	w := s.watched(t, "")
	tells := func(version string) {
		t.Helper()
		await(t, w, func(e store.Event[T]) bool {
			return e.Name == "r" && e.Record != nil && P(e.Record).GetResourceVersion() == version
		})
	}
	tells(P(s.created(t, "r")).GetResourceVersion())
	tells(P(s.updated(t, "r", func(r P) { s.setSpec(r, 2); r.SetLabels(nil) })).GetResourceVersion())
	if s.hasStatus() {
		tells(P(s.statusUpdated(t, "r", 3)).GetResourceVersion())
	}
	s.deleted(t, "r")
	await(t, w, func(e store.Event[T]) bool { return e.Name == "r" && e.Record == nil })
	tells(P(s.created(t, "r")).GetResourceVersion())
}

func testWatchOne[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "a")
	s.created(t, "b")
	w := s.watched(t, "b")
	s.updated(t, "a", func(r P) { r.SetLabels(nil) })
	s.created(t, "b2")
	version := P(s.updated(t, "b", func(r P) { r.SetLabels(nil) })).GetResourceVersion()
	s.deleted(t, "a")
	await(t, w, func(e store.Event[T]) bool {
		if e.Name != "b" || e.Record == nil || P(e.Record).GetName() != "b" {
			t.Fatalf("the watch told of %q: %v", e.Name, e.Record)
		}
		return P(e.Record).GetResourceVersion() == version
	})
	s.deleted(t, "b2")
	s.deleted(t, "b")
	await(t, w, func(e store.Event[T]) bool {
		if e.Name != "b" {
			t.Fatalf("the watch told of %q: %v", e.Name, e.Record)
		}
		return e.Record == nil
	})
}

func testWatchComing[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	w := s.watched(t, "r")
	s.created(t, "other")
	made := s.created(t, "r")
	event := await(t, w, version[T, P](made))
	wantEqual(t, "the name", event.Name, "r")
	wantEqual(t, "the record", event.Record, made)
}

func testWatchMark[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a")
	w := s.watched(t, "r")
	s.deleted(t, "r")
	await(t, w, func(e store.Event[T]) bool { return e.Record != nil && P(e.Record).GetDeletionTimestamp() != nil })
	s.updated(t, "r", func(r P) { r.SetFinalizers(nil) })
	await(t, w, func(e store.Event[T]) bool { return e.Record == nil })
}

func testWatchSlow[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "goes")
	w := s.watched(t, "")
	s.created(t, "stays")
	s.created(t, "comes")
	last := ""
	for n := range 50 {
		last = P(s.updated(t, "stays", func(r P) { r.SetLabels(map[string]string{"n": text(n)}) })).GetResourceVersion()
	}
	s.deleted(t, "comes")
	s.deleted(t, "goes")
	end := P(s.created(t, "end")).GetResourceVersion()
	present := map[string]string{}
	for present["stays"] != last || present["end"] != end || present["goes"] != "" || present["comes"] != "" {
		event := next(t, w)
		present[event.Name] = ""
		if event.Record != nil {
			present[event.Name] = P(event.Record).GetResourceVersion()
		}
	}
}

func testWatchRace[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	names := numbered(40)
	failed := make(chan error, 1)
	ctx := t.Context()
	go func() {
		for _, name := range names {
			if _, err := s.Create(ctx, s.record(name)); err != nil {
				failed <- err
				break
			}
		}
		close(failed)
	}()
	for range 5 {
		w, seen := s.watched(t, ""), map[string]bool{}
		for len(seen) < len(names) {
			seen[next(t, w).Name] = true
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func testWatchTwo[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	watches := []store.Watch[T]{s.watched(t, ""), s.watched(t, ""), s.watched(t, "r"), s.watched(t, "r")}
	made := s.created(t, "r")
	for _, w := range watches {
		event := await(t, w, version[T, P](made))
		wantEqual(t, "the name", event.Name, "r")
		wantEqual(t, "the record", event.Record, made)
	}
}

// version makes the condition that a watch tells of just this version of a record.
func version[T any, P store.Record[T]](want *T) func(store.Event[T]) bool {
	return func(e store.Event[T]) bool {
		return e.Record != nil && P(e.Record).GetResourceVersion() == P(want).GetResourceVersion()
	}
}

func testWatchContext[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	w := s.watched(t, "r")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := w.Next(ctx)
		failed <- err
	}()
	cancel()
	wantEnded(t, <-failed)
	made := s.created(t, "r")
	wantEqual(t, "the next record", await(t, w, version[T, P](made)).Record, made)
}

func testWatchClose[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "r")
	for _, name := range []string{"", "r"} {
		w := s.watched(t, name)
		w.Close()
		w.Close()
		_, err := w.Next(t.Context())
		wantKind(t, err, fault.Unavailable)
	}
	s.updated(t, "r", func(r P) { r.SetLabels(nil) })
}

func testWatchCloseReader[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	w, other := s.watched(t, ""), s.watched(t, "")
	failed := make(chan error)
	ctx := t.Context()
	go func() {
		_, err := w.Next(ctx)
		failed <- err
	}()
	w.Close()
	wantKind(t, <-failed, fault.Unavailable)
	s.created(t, "r")
	wantEqual(t, "the name", next(t, other).Name, "r")
}
