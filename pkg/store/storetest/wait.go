package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// waitTests are about Wait.
func waitTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"a wait for what is so already ends at once": testWaitNow[T, P],
		"a wait ends when the record comes":          testWaitCome[T, P],
		"a wait ends when the record is as wanted":   testWaitChange[T, P],
		"a wait ends when the record is gone":        testWaitGone[T, P],
		"a wait ends with the error of its function": testWaitError[T, P],
		"a wait ends with its context":               testWaitContext[T, P],
		"many waits end each with its own record":    testWaitMany[T, P],
	}
}

// waiting starts a wait. It is told on looked whenever done was asked, and the outcome comes on ended.
func (s subject[T, P]) waiting(ctx context.Context, name string, done func(*T) (bool, error)) (looked <-chan struct{}, ended <-chan outcome[T]) {
	asked, out := make(chan struct{}, 1), make(chan outcome[T], 1)
	go func() {
		record, err := store.Wait(ctx, s.Table, name, func(r *T) (bool, error) {
			defer func() {
				select {
				case asked <- struct{}{}:
				default:
				}
			}()
			return done(r)
		})
		out <- outcome[T]{record, err}
	}()
	return asked, out
}

type outcome[T any] struct {
	record *T
	err    error
}

func (o outcome[T]) must(t *testing.T) *T {
	t.Helper()
	if o.err != nil {
		t.Fatalf("wait: %v", o.err)
	}
	return o.record
}

func testWaitNow[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	_, ended := s.waiting(t.Context(), "r", func(r *T) (bool, error) { return r != nil, nil })
	wantEqual(t, "the record", (<-ended).must(t), made)
	_, ended = s.waiting(t.Context(), "missing", func(r *T) (bool, error) { return r == nil, nil })
	if record := (<-ended).must(t); record != nil {
		t.Errorf("the wait returned %v", record)
	}
}

func testWaitCome[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	looked, ended := s.waiting(t.Context(), "r", func(r *T) (bool, error) { return r != nil, nil })
	<-looked
	made := s.created(t, "r")
	wantEqual(t, "the record's UID", P((<-ended).must(t)).GetUID(), P(made).GetUID())
}

func testWaitChange[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.created(t, "r")
	looked, ended := s.waiting(t.Context(), "r", func(r *T) (bool, error) { return P(r).GetLabels()["n"] == "5", nil })
	<-looked
	var last *T
	for n := range 6 {
		last = s.updated(t, "r", func(r P) { r.SetLabels(map[string]string{"n": text(n)}) })
	}
	wantEqual(t, "the record", (<-ended).must(t), last)
}

func testWaitGone[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.held(t, "r", "example.com/a")
	looked, ended := s.waiting(t.Context(), "r", func(r *T) (bool, error) { return r == nil, nil })
	<-looked
	s.deleted(t, "r")
	s.updated(t, "r", func(r P) { r.SetFinalizers(nil) })
	if record := (<-ended).must(t); record != nil {
		t.Errorf("the wait returned %v", record)
	}
}

func testWaitError[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	want := errors.New("failed for good")
	looked, ended := s.waiting(t.Context(), "r", func(r *T) (bool, error) {
		if r == nil {
			return false, nil
		}
		return false, want
	})
	<-looked
	s.created(t, "r")
	if got := (<-ended).err; !errors.Is(got, want) {
		t.Errorf("got error %v", got)
	}
}

func testWaitContext[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	ctx, cancel := context.WithCancel(t.Context())
	looked, ended := s.waiting(ctx, "r", func(*T) (bool, error) { return false, nil })
	<-looked
	cancel()
	wantEnded(t, (<-ended).err)
}

func testWaitMany[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	names := numbered(200)
	ends := make([]<-chan outcome[T], len(names))
	for i, name := range names {
		var looked <-chan struct{}
		looked, ends[i] = s.waiting(t.Context(), name, func(r *T) (bool, error) { return r != nil, nil })
		<-looked
	}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			made, err := s.Create(t.Context(), s.record(name))
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			if o := <-ends[i]; o.err != nil || P(o.record).GetUID() != P(made).GetUID() {
				t.Errorf("the wait for %s returned %v, %v", name, o.record, o.err)
			}
		})
	}
	wg.Wait()
}
