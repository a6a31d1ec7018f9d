package kube_test

import (
	"context"
	"net/http"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
)

// told reads a watch until it tells what is wanted.
func told(t *testing.T, w store.Watch[v1alpha1.DatastoreVolume], want func(store.Event[v1alpha1.DatastoreVolume]) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		event, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("next: %v", err)
		}
		if want(event) {
			return
		}
	}
}

func TestAnOutageLosesNothing(t *testing.T) {
	ready(t)
	empty(t)
	s := open(t, kube.Config{})
	stays, err := s.Volumes.Create(t.Context(), volume("stays", "node-1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Volumes.Create(t.Context(), volume("goes", "node-1")); err != nil {
		t.Fatal(err)
	}
	w, err := s.Volumes.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	seen := map[string]bool{}
	told(t, w, func(e store.Event[v1alpha1.DatastoreVolume]) bool { seen[e.Name] = true; return len(seen) == 2 })

	if err := plane.StopServer(); err != nil {
		t.Fatal(err)
	}
	calls := map[string]error{"delete": s.Volumes.Delete(t.Context(), "stays", "")}
	_, calls["get"] = s.Volumes.Get(t.Context(), "stays")
	_, calls["get what is not there"] = s.Volumes.Get(t.Context(), "missing")
	_, calls["create"] = s.Volumes.Create(t.Context(), volume("new", "node-1"))
	_, calls["update"] = s.Volumes.Update(t.Context(), stays)
	_, calls["update status"] = s.Volumes.UpdateStatus(t.Context(), stays)
	for call, err := range calls {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s while the API server is away: %v", call, err)
		}
	}
	if listed, err := s.Volumes.List(t.Context()); err != nil || len(listed) != 2 {
		t.Errorf("list while the API server is away: %d records, %v", len(listed), err)
	}
	if err := plane.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// By another client, so that the store learns of it by its watch only.
	if err := plane.Call(t.Context(), http.MethodDelete, groupPath+"datastorevolumes/goes", nil, nil); err != nil {
		t.Fatal(err)
	}
	told(t, w, func(e store.Event[v1alpha1.DatastoreVolume]) bool { return e.Name == "goes" && e.Record == nil })
	if _, err := s.Volumes.Create(t.Context(), volume("new", "node-1")); err != nil {
		t.Fatal(err)
	}
	told(t, w, func(e store.Event[v1alpha1.DatastoreVolume]) bool { return e.Name == "new" && e.Record != nil })
}

func TestAnAPIServerThatWasNeverReachedIsUnavailable(t *testing.T) {
	s := open(t, kube.Config{API: &rest.Config{Host: "https://127.0.0.1:1"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Volumes.Get(t.Context(), "r"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Volumes.List(ctx); !fault.Is(err, fault.Unavailable) {
		t.Errorf("list: %v", err)
	}
}

func TestADriverThatMayNotIsToldWhatToDo(t *testing.T) {
	ready(t)
	s := open(t, kube.Config{API: as(t, "nobody")})
	_, err := s.Volumes.Get(t.Context(), "r")
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("get: %v", err)
	}
	t.Log(err)
}
