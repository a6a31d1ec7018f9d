package embedded

import (
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/memory"
)

// drain reads the events that are there.
func drain(t *testing.T, w store.Watch[volume]) []string {
	t.Helper()
	var events []string
	for {
		event, ok, err := w.(*memory.Watch[volume, *volume]).Pending()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return events
		}
		version := "gone"
		if event.Record != nil {
			version = event.Record.ResourceVersion
		}
		events = append(events, event.Name+" "+version)
	}
}

func watching(t *testing.T, db *DB, name string) store.Watch[volume] {
	t.Helper()
	w, err := db.volumes.Watch(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestAWatchTellsOfEachRecordOnceAndOfTheFirstChangedFirst(t *testing.T) {
	db := paused(t, testConfig(t))
	batched(t, db, creates(db, "b"), creates(db, "a")) // 1, 2
	all, one := watching(t, db, ""), watching(t, db, "b")
	if got := drain(t, all); !slices.Equal(got, []string{"a 2", "b 1"}) {
		t.Errorf("at first: %q", got)
	}
	batched(t, db, creates(db, "c"), deletes(db, "b"), creates(db, "b")) // 3, 4, 5
	batched(t, db, deletes(db, "a"), deletes(db, "c"), creates(db, "c")) // 6, 7, 8
	if got := drain(t, all); !slices.Equal(got, []string{"c 8", "b 5", "a gone"}) {
		t.Errorf("of all records: %q", got)
	}
	if got := drain(t, one); !slices.Equal(got, []string{"b 5"}) {
		t.Errorf("of one record: %q", got)
	}
	if got := drain(t, all); got != nil {
		t.Errorf("once more: %q", got)
	}
}

func TestAWatchShowsNothingThatIsNotCommitted(t *testing.T) {
	db := paused(t, testConfig(t))
	all := watching(t, db, "")
	db.writer.commit = func(b *batch) error {
		if got := append(names(t, db), drain(t, all)...); len(got) != 0 {
			t.Errorf("before the commit there is %q", got)
		}
		err := db.writer.write(b)
		if got := append(names(t, db), drain(t, all)...); len(got) != 0 {
			t.Errorf("within the commit there is %q", got)
		}
		return err
	}
	batched(t, db, creates(db, "a"))
	if got := drain(t, all); !slices.Equal(got, []string{"a 1"}) {
		t.Errorf("after it there is %q", got)
	}
}

func TestAHolderIsFoundInTheKernelsList(t *testing.T) {
	locks := strings.Join([]string{
		"1: FLOCK  ADVISORY  WRITE 18620 fe:00:9805827 0 EOF",
		"2: POSIX  ADVISORY  WRITE 17 fe:00:42 0 EOF",
		"3: FLOCK  ADVISORY  WRITE 0 fe:00:43 0 EOF",
		"4: -> FLOCK  ADVISORY  WRITE 19 fe:00:44 0 EOF",
		"5: FLOCK  ADVISORY  READ  20 fe:00:45 0 EOF", "", "6:", "what is this",
	}, "\n")
	for file, want := range map[string]string{
		"fe:00:9805827": " (process 18620)", "fe:00:42": "", "fe:00:43": "", "fe:00:44": "", "fe:00:45": " (process 20)", "fe:00:1": "", "": "",
	} {
		if got := lockHolder(locks, file); got != want {
			t.Errorf("the holder of %q is %q, want %q", file, got, want)
		}
	}
}

func FuzzLockHolder(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 18620 fe:00:9805827 0 EOF", "fe:00:9805827")
	f.Fuzz(func(t *testing.T, locks, file string) {
		if got := lockHolder(locks, file); got != "" && !strings.Contains(locks, file) {
			t.Errorf("found %q", got)
		}
	})
}
