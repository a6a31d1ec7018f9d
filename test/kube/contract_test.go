package kube_test

import (
	"net/http"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
	"github.com/datastore-csi/datastore-csi/pkg/store/storetest"
)

// resources are the records in the paths of the API.
var resources = []string{"datastores", "datastorehosts", "datastorevolumes", "datastoresnapshots"}

func TestStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		ready(t)
		empty(t)
		return open(t, kube.Config{})
	})
}

// empty removes all records that are there, and those that hold them.
func empty(t *testing.T) {
	t.Helper()
	for _, resource := range resources {
		var all struct {
			Items []struct {
				Metadata struct{ Name string }
			}
		}
		list := func() int {
			if err := plane.Call(t.Context(), http.MethodGet, groupPath+resource, nil, &all); err != nil {
				t.Fatal(err)
			}
			return len(all.Items)
		}
		if list() == 0 {
			continue
		}
		if err := plane.Call(t.Context(), http.MethodDelete, groupPath+resource, nil, nil); err != nil {
			t.Fatal(err)
		}
		list()
		for _, item := range all.Items {
			release(t, resource, item.Metadata.Name)
		}
		if n := list(); n != 0 {
			t.Fatalf("%d %s are left", n, resource)
		}
	}
}

// release takes all finalizers off a record.
func release(t *testing.T, resource, name string) {
	t.Helper()
	var record map[string]any
	path := groupPath + resource + "/" + name
	err := plane.Call(t.Context(), http.MethodGet, path, nil, &record)
	if err == nil {
		record["metadata"].(map[string]any)["finalizers"] = nil
		err = plane.Call(t.Context(), http.MethodPut, path, record, nil)
	}
	if err != nil && refused(err) != "NotFound" {
		t.Fatal(err)
	}
}
