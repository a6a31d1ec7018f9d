package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

type volume = v1alpha1.DatastoreVolume

// table answers from what the test says, and notes the calls.
type table struct {
	store.Table[volume] // what the test does not expect panics
	calls               []string

	get    func() (*volume, error)
	write  func(*volume) (*volume, error)
	watch  error
	events []store.Event[volume]
	closed bool
}

func (t *table) Get(_ context.Context, name string) (*volume, error) {
	t.calls = append(t.calls, "get "+name)
	return t.get()
}

func (t *table) Update(_ context.Context, v *volume) (*volume, error) {
	t.calls = append(t.calls, "update "+v.ResourceVersion)
	return t.write(v)
}

func (t *table) UpdateStatus(_ context.Context, v *volume) (*volume, error) {
	t.calls = append(t.calls, "update status "+v.ResourceVersion)
	return t.write(v)
}

func (t *table) Watch(_ context.Context, name string) (store.Watch[volume], error) {
	t.calls = append(t.calls, "watch "+name)
	return t, t.watch
}

func (t *table) Next(ctx context.Context) (store.Event[volume], error) {
	t.calls = append(t.calls, "next")
	if len(t.events) == 0 {
		return store.Event[volume]{}, fault.Wrap(ctx.Err(), "watch", "r")
	}
	event := t.events[0]
	t.events = t.events[1:]
	return event, nil
}

func (t *table) Close() { t.closed = true }

func version(v string) *volume {
	return &volume{ObjectMeta: metav1.ObjectMeta{
		Name: "r", UID: "uid-1", ResourceVersion: v, Labels: map[string]string{"version": v},
	}}
}

// gets returns a Get that answers with these, one after the other, and then with the last one for ever.
// Nil is a record that is not there.
func gets(versions ...*volume) func() (*volume, error) {
	return func() (*volume, error) {
		v := versions[0]
		if len(versions) > 1 {
			versions = versions[1:]
		}
		if v == nil {
			return nil, fault.New(fault.NotFound, "not there")
		}
		return v, nil
	}
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestChangeBeginsAgainAfterAConflictWithWhatIsThereThen(t *testing.T) {
	tries := 0
	tab := &table{get: gets(version("1"), version("2"), version("3")), write: func(v *volume) (*volume, error) {
		if tries++; tries < 3 {
			return nil, fmt.Errorf("wrapped: %w", fault.New(fault.Conflict, "written since"))
		}
		return v, nil
	}}
	var seen []string
	got, err := store.Change(t.Context(), tab, "r", func(v *volume) error {
		seen = append(seen, v.Labels["version"])
		v.Labels["version"] = "altered"
		return nil
	})
	if err != nil || got.ResourceVersion != "3" || got.Labels["version"] != "altered" {
		t.Errorf("got %v, %v", got, err)
	}
	if want := []string{"1", "2", "3"}; !slices.Equal(seen, want) {
		t.Errorf("the function saw %q", seen)
	}
	want := []string{"get r", "update 1", "get r", "update 2", "get r", "update 3"}
	if !slices.Equal(tab.calls, want) {
		t.Errorf("calls: %q", tab.calls)
	}
}

func TestChangeHandsOutACopy(t *testing.T) {
	shared := version("1")
	tab := &table{get: gets(shared), write: func(v *volume) (*volume, error) { return v, nil }}
	for _, change := range []func() error{
		func() error {
			_, err := store.Change(t.Context(), tab, "r", func(v *volume) error { v.Labels["version"] = "x"; return nil })
			return err
		},
		func() error {
			_, err := store.ChangeStatus(t.Context(), tab, "r", func(v *volume) error { v.Labels["version"] = "x"; return nil })
			return err
		},
	} {
		if err := change(); err != nil || shared.Labels["version"] != "1" {
			t.Errorf("the shared record says %q, %v", shared.Labels["version"], err)
		}
	}
	if want := []string{"get r", "update 1", "get r", "update status 1"}; !slices.Equal(tab.calls, want) {
		t.Errorf("calls: %q", tab.calls)
	}
}

func TestChangeEndsWithAnErrorThatIsNoConflict(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		get   func() (*volume, error)
		alter error
		write error
		want  error
		calls []string
	}{
		"the record cannot be read": {
			get: func() (*volume, error) { return nil, no }, want: no, calls: []string{"get r"},
		},
		"the function fails, even with a conflict of its own": {
			get: gets(version("1")), alter: fault.As(fault.Conflict, no), want: no, calls: []string{"get r"},
		},
		"the record cannot be written": {
			get: gets(version("1")), write: fault.As(fault.Unavailable, no), want: no, calls: []string{"get r", "update 1"},
		},
		"nothing is to be written": {
			get: gets(version("1")), alter: fmt.Errorf("as it is: %w", store.Unchanged()), calls: []string{"get r"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tab := &table{get: c.get, write: func(*volume) (*volume, error) { return nil, c.write }}
			got, err := store.Change(t.Context(), tab, "r", func(*volume) error { return c.alter })
			if !errors.Is(err, c.want) {
				t.Errorf("got error %v", err)
			}
			if (err == nil) != (got != nil) {
				t.Errorf("got %v with error %v", got, err)
			}
			if !slices.Equal(tab.calls, c.calls) {
				t.Errorf("calls: %q", tab.calls)
			}
		})
	}
}

func TestChangeGivesUpOnConflictsWhenTheContextEnds(t *testing.T) {
	tab := &table{get: gets(version("1")), write: func(*volume) (*volume, error) { return nil, fault.New(fault.Conflict, "again") }}
	if _, err := store.Change(ended(t), tab, "r", func(*volume) error { return nil }); !fault.Is(err, fault.Conflict) {
		t.Errorf("got error %v", err)
	}
	if want := []string{"get r", "update 1"}; !slices.Equal(tab.calls, want) {
		t.Errorf("calls: %q", tab.calls)
	}
}

func TestWaitWatchesBeforeItLooksAndClosesTheWatch(t *testing.T) {
	tab := &table{get: gets(version("1"))}
	got, err := store.Wait(t.Context(), tab, "r", func(*volume) (bool, error) { return true, nil })
	if err != nil || got.ResourceVersion != "1" || !tab.closed {
		t.Errorf("got %v, %v, closed %v", got, err, tab.closed)
	}
	if want := []string{"watch r", "get r"}; !slices.Equal(tab.calls, want) {
		t.Errorf("calls: %q", tab.calls)
	}
}

func TestWaitShowsTheLiveRecordWhateverTheWatchLagsBehind(t *testing.T) {
	other := version("1")
	other.UID = types.UID("uid-0")
	tab := &table{
		get: gets(version("5"), version("5"), version("5"), version("5"), nil, version("7")),
		events: []store.Event[volume]{
			{Name: "r", Record: version("5")}, // known: no reason to look
			{Name: "r", Record: version("3")}, // older than what was seen
			{Name: "r", Record: nil},          // an older life of the record
			{Name: "r", Record: other},
			{Name: "r", Record: version("6")},
			{Name: "r", Record: nil}, // known by then
			{Name: "r", Record: version("7")},
		},
	}
	var seen []string
	got, err := store.Wait(t.Context(), tab, "r", func(v *volume) (bool, error) {
		if v == nil {
			seen = append(seen, "gone")
			return false, nil
		}
		seen = append(seen, v.ResourceVersion)
		return v.ResourceVersion == "7", nil
	})
	if err != nil || got.ResourceVersion != "7" {
		t.Errorf("got %v, %v", got, err)
	}
	if want := []string{"5", "5", "5", "5", "gone", "7"}; !slices.Equal(seen, want) {
		t.Errorf("the function saw %q, want %q", seen, want)
	}
}

func TestWaitEndsWithTheFirstError(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		tab  *table
		done error
		ctx  context.Context
		want error
	}{
		"the record cannot be watched": {tab: &table{watch: no}, want: no},
		"the record cannot be read":    {tab: &table{get: func() (*volume, error) { return nil, no }}, want: no},
		"the function fails":           {tab: &table{get: gets(nil)}, done: no, want: no},
		"the context ends":             {tab: &table{get: gets(nil)}, ctx: ended(t), want: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if c.ctx != nil {
				ctx = c.ctx
			}
			_, err := store.Wait(ctx, c.tab, "r", func(*volume) (bool, error) { return false, c.done })
			if !errors.Is(err, c.want) {
				t.Errorf("got error %v", err)
			}
			if c.tab.watch == nil && !c.tab.closed {
				t.Error("the watch was left open")
			}
		})
	}
}
