package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestAClosedStoreAnswersUnavailable(t *testing.T) {
	db := open(t, config(newPath(t)))
	volumes := db.Store().Volumes
	made, err := volumes.Create(t.Context(), volume("r"))
	if err != nil {
		t.Fatal(err)
	}
	read, err := volumes.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	unread, err := volumes.Watch(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed(t, db)

	ctx := t.Context()
	calls := map[string]error{}
	_, calls["get"] = volumes.Get(ctx, "r")
	_, calls["list"] = volumes.List(ctx)
	_, calls["watch"] = volumes.Watch(ctx, "")
	_, calls["create"] = volumes.Create(ctx, volume("other"))
	_, calls["update"] = volumes.Update(ctx, made)
	_, calls["update status"] = volumes.UpdateStatus(ctx, made)
	calls["delete"] = volumes.Delete(ctx, "r", "")
	_, calls["next of a watch that was read"] = read.Next(ctx)
	_, calls["next of a watch that was not"] = unread.Next(ctx)
	for call, err := range calls {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: got error %v", call, err)
		}
	}
	read.Close()
	unread.Close()
}

func TestClosingEndsWaitsAndFinishesOrFailsWrites(t *testing.T) {
	c := config(newPath(t))
	db := open(t, c)
	volumes := db.Store().Volumes
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := store.Wait(t.Context(), volumes, "never", func(v *v1alpha1.DatastoreVolume) (bool, error) { return v != nil, nil })
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("wait: got error %v", err)
		}
	})
	var written sync.Map
	started := make(chan struct{}, 1)
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				_, err := volumes.Create(t.Context(), volume(name))
				if err != nil {
					if !fault.Is(err, fault.Unavailable) {
						t.Errorf("create: got error %v", err)
					}
					return
				}
				written.Store(name, nil)
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	closed(t, db)
	wg.Wait()
	again := opened(t, c).Store().Volumes
	written.Range(func(name, _ any) bool {
		if _, err := again.Get(context.Background(), fmt.Sprint(name)); err != nil {
			t.Errorf("what was acknowledged is not there: %v", err)
		}
		return true
	})
}
