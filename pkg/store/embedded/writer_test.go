package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

type volume = v1alpha1.DatastoreVolume

func testConfig(t *testing.T) Config {
	t.Helper()
	var uids atomic.Int64
	return Config{
		Path: filepath.Join(t.TempDir(), "store.db"), Owner: Owner{Host: "h", MachineID: "m"},
		Now:    func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC) },
		NewUID: func() string { return "uid-" + strconv.FormatInt(uids.Add(1), 10) },
	}
}

// paused opens a store whose writer does not run: the test serves batches itself, so that it says which
// writes come together.
func paused(t *testing.T, c Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	db.writer.close()
	db.writer.stopped = make(chan struct{})
	close(db.writer.stopped)
	db.writer.stop = make(chan struct{})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// ask starts a write and returns when it waits for the writer; its error comes on the channel.
func ask(t *testing.T, db *DB, write func(context.Context) error) (request, <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- write(t.Context()) }()
	return <-db.writer.requests, done
}

func creates(db *DB, name string) func(context.Context) error {
	return func(ctx context.Context) error { return created(ctx, db, name) }
}

func created(ctx context.Context, db *DB, name string) error {
	v := &volume{}
	v.Name = name
	_, err := db.volumes.Create(ctx, v)
	return err
}

func deletes(db *DB, name string) func(context.Context) error {
	return func(ctx context.Context) error { return db.volumes.Delete(ctx, name, "") }
}

// batched serves writes as one batch and returns their errors.
func batched(t *testing.T, db *DB, writes ...func(context.Context) error) []error {
	t.Helper()
	var requests []request
	var answers []<-chan error
	for _, write := range writes {
		r, answer := ask(t, db, write)
		requests, answers = append(requests, r), append(answers, answer)
	}
	db.writer.serve(requests)
	errs := make([]error, len(answers))
	for i, answer := range answers {
		errs[i] = <-answer
	}
	return errs
}

func kinds(errs []error) []string {
	names := make([]string, len(errs))
	for i, err := range errs {
		if err != nil {
			names[i] = fault.KindOf(err).String()
		}
	}
	return names
}

func names(t *testing.T, db *DB) []string {
	t.Helper()
	all, err := db.volumes.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, v := range all {
		list = append(list, v.Name)
	}
	return list
}

// reopened returns what the file holds.
func reopened(t *testing.T, db *DB) []string {
	t.Helper()
	if err := db.file.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), db.config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	return names(t, again)
}

func TestWritesOfOneBatchSeeEachOtherAndAreCommittedOnce(t *testing.T) {
	db := paused(t, testConfig(t))
	commits := 0
	db.writer.commit = func(b *batch) error { commits++; return db.writer.write(b) }
	update := func(version string) func(context.Context) error {
		return func(ctx context.Context) error {
			v := &volume{}
			v.Name, v.ResourceVersion, v.Labels = "a", version, map[string]string{"version": version}
			_, err := db.volumes.Update(ctx, v)
			return err
		}
	}
	errs := batched(t, db,
		creates(db, "a"), creates(db, "a"), update("1"), update("1"), update("2"), // a: created, updated twice
		creates(db, "b"), deletes(db, "b"), deletes(db, "b"), // b: came and went
		deletes(db, "c"), creates(db, "c"),
	)
	want := []string{"", "Exists", "", "Conflict", "", "", "", "NotFound", "NotFound", ""}
	if got := kinds(errs); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if commits != 1 {
		t.Errorf("%d commits", commits)
	}
	if got := names(t, db); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("memory holds %q", got)
	}
	if got := reopened(t, db); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("the file holds %q", got)
	}
}

func TestABatchThatWritesNothingIsNotCommitted(t *testing.T) {
	db := paused(t, testConfig(t))
	batched(t, db, creates(db, "a"))
	db.writer.commit = func(*batch) error { t.Error("a commit"); return nil }
	same := func(ctx context.Context) error {
		v, err := db.volumes.Get(ctx, "a")
		if err != nil {
			return err
		}
		after, err := db.volumes.Update(ctx, v)
		if after != v {
			t.Error("another version")
		}
		return err
	}
	if got := kinds(batched(t, db, creates(db, "a"), deletes(db, "b"), same)); !slices.Equal(got, []string{"Exists", "NotFound", ""}) {
		t.Errorf("got %q", got)
	}
}

func TestAFailedCommitFailsItsBatchAndChangesNothing(t *testing.T) {
	db := paused(t, testConfig(t))
	batched(t, db, creates(db, "a"))
	all := watching(t, db, "")
	drain(t, all)
	broken := errors.New("broken")
	db.writer.commit = func(*batch) error { return broken }
	for _, err := range batched(t, db, creates(db, "b"), deletes(db, "a"), creates(db, "a"), deletes(db, "c")) {
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, broken) {
			t.Errorf("got error %v", err)
		}
	}
	if got := names(t, db); !slices.Equal(got, []string{"a"}) {
		t.Errorf("memory holds %q", got)
	}
	if len(db.writer.doubt) != 0 {
		t.Errorf("%d records in doubt, and the file did not change", len(db.writer.doubt))
	}
	db.writer.commit = db.writer.write
	if got := kinds(batched(t, db, creates(db, "b"), creates(db, "a"))); !slices.Equal(got, []string{"", "Exists"}) {
		t.Errorf("got %q", got)
	}
	if got := drain(t, all); !slices.Equal(got, []string{"b 2"}) {
		t.Errorf("the watch told of %q", got)
	}
	if got := reopened(t, db); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the file holds %q", got)
	}
}

// A sync that fails after the last page was written: bbolt calls it an error, and the file has changed.
func TestACommitThatFailedAndHappenedIsUndoneByTheNext(t *testing.T) {
	for name, next := range map[string]func(*DB) func(context.Context) error{
		"which writes something else":  func(db *DB) func(context.Context) error { return creates(db, "z") },
		"which writes nothing":         func(db *DB) func(context.Context) error { return deletes(db, "never") },
		"which writes one of them":     func(db *DB) func(context.Context) error { return creates(db, "new") },
		"which writes the deleted one": func(db *DB) func(context.Context) error { return deletes(db, "old") },
	} {
		t.Run(name, func(t *testing.T) {
			db := paused(t, testConfig(t))
			batched(t, db, creates(db, "old"))
			db.writer.commit = func(b *batch) error { return errors.Join(db.writer.write(b), errors.New("sync")) }
			for range 2 {
				batched(t, db, creates(db, "new"), deletes(db, "old"))
			}
			if got := names(t, db); !slices.Equal(got, []string{"old"}) {
				t.Errorf("memory holds %q", got)
			}
			if len(db.writer.doubt) != 2 {
				t.Errorf("%d records in doubt", len(db.writer.doubt))
			}
			db.writer.commit = db.writer.write
			batched(t, db, next(db))
			if len(db.writer.doubt) != 0 {
				t.Errorf("%d records in doubt after a commit", len(db.writer.doubt))
			}
			if memory, file := names(t, db), reopened(t, db); !slices.Equal(memory, file) {
				t.Errorf("memory holds %q, the file %q", memory, file)
			}
		})
	}
}

func TestAWriteWhoseCallerHasGoneIsLeftOut(t *testing.T) {
	db := paused(t, testConfig(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- created(ctx, db, "a") }()
	r := <-db.writer.requests
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "a") {
		t.Errorf("got error %v", err)
	}
	db.writer.serve([]request{r})
	if got := names(t, db); len(got) != 0 {
		t.Errorf("memory holds %q", got)
	}
	// And one that never reached the writer.
	if err := created(ctx, db, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
}

func TestARecordTooLargeFailsAlone(t *testing.T) {
	db := paused(t, testConfig(t))
	large := func(ctx context.Context) error {
		v := &volume{}
		v.Name, v.Annotations = "large", map[string]string{"a": strings.Repeat("x", maxRecordBytes)}
		_, err := db.volumes.Create(ctx, v)
		return err
	}
	if got := kinds(batched(t, db, creates(db, "a"), large, creates(db, "b"))); !slices.Equal(got, []string{"", "Invalid", ""}) {
		t.Errorf("got %q", got)
	}
	if got := reopened(t, db); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the file holds %q", got)
	}
}

func TestVersionsAreCountedOverAllTablesAndOpenings(t *testing.T) {
	c := testConfig(t)
	db := paused(t, c)
	batched(t, db, creates(db, "a"), deletes(db, "a"))
	batched(t, db, func(ctx context.Context) error {
		h := &v1alpha1.DatastoreHost{}
		h.Name = "h"
		made, err := db.hosts.Create(ctx, h)
		if err == nil && made.ResourceVersion != "3" {
			t.Errorf("the third write has version %s", made.ResourceVersion)
		}
		return err
	})
	if err := db.file.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	made, err := again.datastores.Create(t.Context(), &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: "d"}})
	if err != nil || made.ResourceVersion != "4" {
		t.Errorf("the fourth write has version %s, %v", made.ResourceVersion, err)
	}
	if at := made.CreationTimestamp.UTC(); !at.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("created at %v", at)
	}
}
