package memory

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func memoryTable() *Table[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume] {
	return New[v1alpha1.DatastoreVolume]("volume", func() error { return fault.New(fault.Unavailable, "closed") })
}

func TestAQueueHoldsEachNameOnce(t *testing.T) {
	all, one := newQueue(""), newQueue("a")
	for i := range 1000 {
		all.add(strconv.Itoa(i % 3))
		one.add("a")
	}
	if len(all.names) != 3 || len(all.queued) != 3 || len(one.names) != 1 {
		t.Errorf("queued: %q, %q", all.names, one.names)
	}
	for _, want := range []string{"0", "1", "2", "0"} {
		if got, ok := all.take(); !ok || got != want {
			t.Errorf("took %q, want %q", got, want)
		}
		if want == "1" {
			all.add("0") // changed again after it was told, while others wait
		}
	}
	if _, ok := all.take(); ok || all.names != nil || all.queued != nil {
		t.Errorf("an empty queue keeps %q, %v", all.names, all.queued)
	}
}

func TestOpenWatchesHaveNoGoroutinesAndCloseWithoutARemainder(t *testing.T) {
	table := memoryTable()
	before := runtime.NumGoroutine()
	var open []store.Watch[v1alpha1.DatastoreVolume]
	for i := range 1000 {
		w, err := table.Watch(t.Context(), "r"+strconv.Itoa(i%10))
		if err != nil {
			t.Fatal(err)
		}
		all, err := table.Watch(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, w, all)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	for _, w := range open {
		w.Close()
	}
	if q := table.queues; len(q.all) != 0 || len(q.byName) != 0 {
		t.Errorf("%d and %d queues are left", len(q.all), len(q.byName))
	}
}
