package storetest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// writeTests are about Create, Get, List and Update.
func writeTests[T any, P store.Record[T]]() map[string]func(*testing.T, subject[T, P]) {
	return map[string]func(*testing.T, subject[T, P]){
		"an empty store lists nothing, and knows no record":               testEmpty[T, P],
		"a created record has what was given and what the store adds":     testCreate[T, P],
		"a name that is taken cannot be created":                          testCreateTwice[T, P],
		"of many creates of one name at once one wins":                    testCreateRace[T, P],
		"what a new record says of UID, version and times does not count": testCreateDirty[T, P],
		"a name that is no DNS subdomain is invalid everywhere":           testNames[T, P],
		"records are listed by name":                                      testList[T, P],
		"an update writes spec and metadata":                              testUpdate[T, P],
		"an update of metadata leaves the generation":                     testUpdateMetadata[T, P],
		"an update that changes nothing raises nothing":                   testUpdateNothing[T, P],
		"an update of an old version conflicts":                           testUpdateConflict[T, P],
		"an update of what is not there finds nothing":                    testUpdateMissing[T, P],
		"an update of a record that was made anew conflicts":              testUpdateRecreated[T, P],
		"a call whose context has ended fails and writes nothing":         testEnded[T, P],
		"a write is a step, told before anything is written":              testStep[T, P],
	}
}

func testEmpty[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	s.eventuallyLists(t)
	s.gone(t, "missing")
}

func testCreate[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	given := s.record("new")
	P(given).SetFinalizers([]string{"example.com/a", "example.com/b"})
	s.setSpec(given, 3)
	s.setStatus(given, 4)
	before := P(given).DeepCopy()
	made := s.creates(t, given)
	wantEqual(t, "the record given", given, before)
	wantEqual(t, "what Get returns", s.got(t, "new"), made)
	m := P(made)
	at := m.GetCreationTimestamp()
	if m.GetUID() == "" || m.GetResourceVersion() == "" || m.GetGeneration() != 1 || at.IsZero() {
		t.Errorf("UID %q, version %q, generation %d, created %v", m.GetUID(), m.GetResourceVersion(), m.GetGeneration(), at)
	}
	if m.GetDeletionTimestamp() != nil {
		t.Errorf("marked deleted at %v", m.GetDeletionTimestamp())
	}
	s.sameBut(t, made, given)
}

// sameBut compares two records but for what the store sets.
func (s subject[T, P]) sameBut(t *testing.T, got, want *T) {
	t.Helper()
	a, b := P(got).DeepCopy(), P(want).DeepCopy()
	for _, r := range []P{a, b} {
		r.SetUID("")
		r.SetResourceVersion("")
		r.SetGeneration(0)
		r.SetCreationTimestamp(P(s.record("x")).GetCreationTimestamp())
		r.SetManagedFields(nil)
	}
	wantEqual(t, "the record", a, b)
}

func testCreateTwice[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "taken")
	other := s.record("taken")
	P(other).SetLabels(map[string]string{"tier": "iron"})
	for _, record := range []*T{other, s.record("taken"), made} {
		_, err := s.Create(t.Context(), record)
		wantKind(t, err, fault.Exists)
	}
	wantEqual(t, "the record that was there", s.got(t, "taken"), made)
}

func testCreateRace[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	won := make([]*T, 16)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range won {
		record := s.record("raced")
		P(record).SetLabels(map[string]string{"caller": text(i)})
		wg.Go(func() {
			<-start
			var err error
			if won[i], err = s.Create(t.Context(), record); err != nil {
				won[i] = nil
				wantKind(t, err, fault.Exists)
			}
		})
	}
	close(start)
	wg.Wait()
	winners := 0
	for i, made := range won {
		if made == nil {
			continue
		}
		winners++
		wantEqual(t, "the record", s.got(t, "raced"), made)
		wantEqual(t, "the caller", P(made).GetLabels()["caller"], text(i))
	}
	if winners != 1 {
		t.Errorf("%d creates succeeded", winners)
	}
}

func testCreateDirty[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	old := P(s.held(t, "old", "example.com/a"))
	s.deleted(t, "old")
	dirty := P(s.got(t, "old")).DeepCopy()
	P(dirty).SetName("new")
	P(dirty).SetFinalizers(nil)
	made := P(s.creates(t, dirty))
	if made.GetUID() == old.GetUID() || made.GetResourceVersion() == old.GetResourceVersion() {
		t.Errorf("UID %q or version %q of another record", made.GetUID(), made.GetResourceVersion())
	}
	if made.GetGeneration() != 1 || made.GetDeletionTimestamp() != nil {
		t.Errorf("generation %d, deleted at %v", made.GetGeneration(), made.GetDeletionTimestamp())
	}
}

func testNames[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	ctx := t.Context()
	for _, name := range []string{
		"", ".", "..", "../x", "/etc/passwd", "UPPER", "under_score", "-a", "a-", "a..b", "a b", "a\x00b", "ünï", "a\n",
		strings.Repeat("a", 254), strings.Repeat("x", 4096),
	} {
		calls := map[string]error{}
		_, calls["create"] = s.Create(ctx, s.record(name))
		_, calls["get"] = s.Get(ctx, name)
		_, calls["update"] = s.Update(ctx, s.record(name))
		_, calls["update status"] = s.UpdateStatus(ctx, s.record(name))
		calls["delete"] = s.Delete(ctx, name, "")
		if name != "" {
			_, calls["watch"] = s.Watch(ctx, name)
		}
		for call, err := range calls {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s of %.20q: got error %v, want an invalid name", call, name, err)
			}
		}
	}
	s.eventuallyLists(t)
	long, dotted := strings.Repeat("a", 253), "a.b-c.d"
	if s.labels {
		long, dotted = strings.Repeat("a", 63), "a-b"
	}
	s.created(t, long)
	s.created(t, dotted)
	s.eventuallyLists(t, dotted, long)
}

func testList[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	between := "b.a"
	if s.labels {
		between = "b-b"
	}
	for _, name := range []string{"b", "c", "a", between, "b-a", "10", "9"} {
		s.created(t, name)
	}
	s.eventuallyLists(t, "10", "9", "a", "b", "b-a", between, "c")
	s.deleted(t, "b")
	s.deleted(t, "10")
	s.updated(t, "c", func(r P) { r.SetLabels(nil) })
	s.created(t, "d")
	s.eventuallyLists(t, "9", "a", "b-a", between, "c", "d")
}

func testUpdate[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := P(s.held(t, "r", "example.com/a"))
	labels, notes := map[string]string{"tier": "iron"}, map[string]string{"other": "note"}
	after := s.updated(t, "r", func(r P) {
		s.setSpec(r, 5)
		s.setStatus(r, 6)
		r.SetLabels(labels)
		r.SetAnnotations(notes)
		r.SetFinalizers([]string{"example.com/b", "example.com/c"})
	})
	wantEqual(t, "what Get returns", s.got(t, "r"), after)
	m := P(after)
	wantEqual(t, "labels", m.GetLabels(), labels)
	wantEqual(t, "annotations", m.GetAnnotations(), notes)
	wantEqual(t, "finalizers", m.GetFinalizers(), []string{"example.com/b", "example.com/c"})
	wantEqual(t, "UID", m.GetUID(), made.GetUID())
	if now, then := m.GetCreationTimestamp(), made.GetCreationTimestamp(); !now.Equal(&then) {
		t.Errorf("created at %v, then at %v", then, now)
	}
	if m.GetResourceVersion() == made.GetResourceVersion() {
		t.Errorf("the version is still %s", m.GetResourceVersion())
	}
	wantEqual(t, "the status", s.status(after), s.status(made))
	if s.hasSpec() {
		wantEqual(t, "the spec", s.spec(after), 5)
		wantEqual(t, "the generation", m.GetGeneration(), int64(2))
	}
}

func testUpdateMetadata[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := P(s.created(t, "r"))
	after := P(s.updated(t, "r", func(r P) { r.SetLabels(map[string]string{"tier": "iron"}) }))
	wantEqual(t, "the generation", after.GetGeneration(), made.GetGeneration())
	if after.GetResourceVersion() == made.GetResourceVersion() {
		t.Errorf("the version is still %s", after.GetResourceVersion())
	}
}

func testUpdateNothing[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	after := s.updated(t, "r", func(P) {})
	wantEqual(t, "the generation", P(after).GetGeneration(), int64(1))
	s.sameBut(t, after, made)
	s.sameBut(t, s.statusUpdated(t, "r", s.status(made)), made)
}

func testUpdateConflict[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	old := P(s.created(t, "r")).DeepCopy()
	present := s.updated(t, "r", func(r P) { r.SetLabels(map[string]string{"tier": "iron"}) })
	unread, other := s.record("r"), P(present).DeepCopy()
	P(other).SetUID("5bd9c7e2-26f8-4df6-96d5-0c3f2d2f0f6a")
	for what, record := range map[string]*T{"an old version": old, "no version": unread, "another UID": other} {
		P(record).SetLabels(map[string]string{"tier": "lead"})
		s.setSpec(record, 9)
		s.setStatus(record, 9)
		_, err := s.Update(t.Context(), record)
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("update of %s: got error %v, want a conflict", what, err)
		}
		_, err = s.UpdateStatus(t.Context(), record)
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("update of the status of %s: got error %v, want a conflict", what, err)
		}
	}
	wantEqual(t, "the record", s.got(t, "r"), present)
}

func testUpdateMissing[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	s.deleted(t, "r")
	for _, record := range []*T{made, s.record("never")} {
		_, err := s.Update(t.Context(), record)
		wantKind(t, err, fault.NotFound)
		_, err = s.UpdateStatus(t.Context(), record)
		wantKind(t, err, fault.NotFound)
	}
	s.gone(t, "r")
	s.gone(t, "never")
}

func testUpdateRecreated[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	old := s.created(t, "r")
	s.deleted(t, "r")
	anew := s.created(t, "r")
	if P(old).GetUID() == P(anew).GetUID() || P(old).GetResourceVersion() == P(anew).GetResourceVersion() {
		t.Errorf("UID %q or version %q came again", P(anew).GetUID(), P(anew).GetResourceVersion())
	}
	_, err := s.Update(t.Context(), old)
	wantKind(t, err, fault.Conflict)
	_, err = s.UpdateStatus(t.Context(), old)
	wantKind(t, err, fault.Conflict)
	wantEqual(t, "the new record", s.got(t, "r"), anew)
}

func testEnded[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	made := s.created(t, "r")
	altered := P(made).DeepCopy()
	P(altered).SetLabels(nil)
	s.setStatus(altered, 8)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "r")
	wantEnded(t, err)
	_, err = s.List(ctx)
	wantEnded(t, err)
	_, err = s.Watch(ctx, "r")
	wantEnded(t, err)
	_, err = s.Create(ctx, s.record("other"))
	wantEnded(t, err)
	_, err = s.Update(ctx, altered)
	wantEnded(t, err)
	_, err = s.UpdateStatus(ctx, altered)
	wantEnded(t, err)
	wantEnded(t, s.Delete(ctx, "r", ""))
	wantEqual(t, "the record", s.got(t, "r"), made)
	s.gone(t, "other")
}

func testStep[T any, P store.Record[T]](t *testing.T, s subject[T, P]) {
	var told []string
	look := func() string {
		record, err := s.Get(t.Context(), "r")
		if err != nil {
			return fault.KindOf(err).String()
		}
		return P(record).GetLabels()["tier"] + text(s.status(record))
	}
	var before string
	ctx := step.WithHook(step.WithVolume(t.Context(), "pvc-9"), func(volume, what string) {
		told = append(told, volume+" "+what)
		if len(told) == 1 { // a write may be several, each a step
			before = look()
		}
	})
	writes := func(what, want string, write func() error) {
		told = nil
		if err := write(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(told) == 0 || !strings.HasPrefix(told[0], "pvc-9 ") || !strings.Contains(told[0], "r") {
			t.Errorf("%s: the hook was told %q", what, told)
		}
		if before != want {
			t.Errorf("%s: before it there was %q, want %q", what, before, want)
		}
	}
	writes("create", fault.NotFound.String(), func() error { _, err := s.Create(ctx, s.record("r")); return err })
	altered := P(s.got(t, "r")).DeepCopy()
	P(altered).SetLabels(map[string]string{"tier": "iron"})
	writes("update", "gold0", func() error { _, err := s.Update(ctx, altered); return err })
	altered = P(s.got(t, "r")).DeepCopy()
	s.setStatus(altered, 2)
	writes("update status", "iron0", func() error { _, err := s.UpdateStatus(ctx, altered); return err })
	writes("delete", "iron"+text(s.status(altered)), func() error { return s.Delete(ctx, "r", "") })
}
