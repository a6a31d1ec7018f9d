// Package storetest is the contract of pkg/store as a suite of tests, which every store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// patience is how long the suite waits for what must happen. Nothing takes nearly as long.
const patience = 30 * time.Second

// Run runs the suite. Open is called for every test and returns an empty store of the test's own; it
// fails the test where it cannot, and cleans up with t.Cleanup. The suite is meant for the race detector.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	runKind(t, open, datastores())
	runKind(t, open, hosts())
	runKind(t, open, volumes())
	runKind(t, open, snapshots())
	t.Run("records of different kinds do not share names", func(t *testing.T) { testKinds(t, open(t)) })
}

// runKind runs the tests of one table.
func runKind[T any, P store.Record[T]](t *testing.T, open func(t *testing.T) *store.Store, k kind[T, P]) {
	tests := map[string]func(*testing.T, subject[T, P]){}
	for _, group := range []map[string]func(*testing.T, subject[T, P]){
		writeTests[T, P](), statusTests[T, P](), deleteTests[T, P](), watchTests[T, P](), waitTests[T, P](), shareTests[T, P](),
	} {
		for name, test := range group {
			tests[name] = test
		}
	}
	t.Run(k.name, func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, subject[T, P]{kind: k, Table: k.table(open(t))}) })
		}
	})
}

// subject is the table under test, with what its kind of record needs.
type subject[T any, P store.Record[T]] struct {
	kind[T, P]
	store.Table[T]
}

// created creates a record that must not be there.
func (s subject[T, P]) created(t *testing.T, name string) *T {
	t.Helper()
	return s.creates(t, s.record(name))
}

// creates creates a record that must not be there.
func (s subject[T, P]) creates(t *testing.T, record *T) *T {
	t.Helper()
	made, err := s.Create(t.Context(), record)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return made
}

// held creates a record with finalizers.
func (s subject[T, P]) held(t *testing.T, name string, finalizers ...string) *T {
	t.Helper()
	record := s.record(name)
	P(record).SetFinalizers(finalizers)
	return s.creates(t, record)
}

// got gets a record that must be there.
func (s subject[T, P]) got(t *testing.T, name string) *T {
	t.Helper()
	record, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return record
}

// updated alters a copy of the present record and writes it.
func (s subject[T, P]) updated(t *testing.T, name string, alter func(P)) *T {
	t.Helper()
	record := P(s.got(t, name)).DeepCopy()
	alter(record)
	written, err := s.Update(t.Context(), record)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return written
}

// statusUpdated alters a copy of the present record and writes its status.
func (s subject[T, P]) statusUpdated(t *testing.T, name string, n int) *T {
	t.Helper()
	record := P(s.got(t, name)).DeepCopy()
	s.setStatus(record, n)
	written, err := s.UpdateStatus(t.Context(), record)
	if err != nil {
		t.Fatalf("update status: %v", err)
	}
	return written
}

// deleted deletes a record that must be there.
func (s subject[T, P]) deleted(t *testing.T, name string) {
	t.Helper()
	if err := s.Delete(t.Context(), name, ""); err != nil {
		t.Fatalf("delete: %v", err)
	}
}

// gone fails unless Get finds nothing.
func (s subject[T, P]) gone(t *testing.T, name string) {
	t.Helper()
	record, err := s.Get(t.Context(), name)
	wantKind(t, err, fault.NotFound)
	if record != nil {
		t.Errorf("got a record with the error: %v", record)
	}
}

// eventuallyLists waits until List returns what is wanted, since it may lag.
func (s subject[T, P]) eventuallyLists(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		records, err := s.List(t.Context())
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		names := []string{}
		for _, r := range records {
			names = append(names, P(r).GetName())
		}
		if cmp.Equal(names, want, cmpopts.EquateEmpty()) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("listed %q, want %q", names, want)
		}
	}
}

// watched opens a watch that is closed after the test.
func (s subject[T, P]) watched(t *testing.T, name string) store.Watch[T] {
	t.Helper()
	w, err := s.Watch(t.Context(), name)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	t.Cleanup(w.Close)
	return w
}

// next waits for the next event.
func next[T any](t *testing.T, w store.Watch[T]) store.Event[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	event, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return event
}

// await reads events until one is as wanted.
func await[T any](t *testing.T, w store.Watch[T], want func(store.Event[T]) bool) store.Event[T] {
	t.Helper()
	for {
		if event := next(t, w); want(event) {
			return event
		}
	}
}

// wantKind fails unless err is of the kind.
func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("got error %v, want one of kind %v", err, kind)
	}
}

// wantEnded fails unless err says that the caller's context was cancelled.
func wantEnded(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) {
		t.Errorf("got error %v, want one that says that the context was cancelled", err)
	}
}

// wantEqual fails unless two values are equal, by meaning: 1Gi is 1024Mi, and nothing is empty.
func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s is not as it should be (-want +got):\n%s", what, diff)
	}
}

// numbered makes n names.
func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("record-%03d", i)
	}
	return names
}
