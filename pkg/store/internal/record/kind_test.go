package record

import (
	"reflect"
	"testing"
)

// A record that gets a new part must not lose it in a store that does not know it.
func TestEveryPartOfARecordIsCopied(t *testing.T) {
	t.Run("Datastore", func(t *testing.T) { wholeKind(t, Datastores()) })
	t.Run("DatastoreHost", func(t *testing.T) { wholeKind(t, Hosts()) })
	t.Run("DatastoreVolume", func(t *testing.T) { wholeKind(t, Volumes()) })
	t.Run("DatastoreSnapshot", func(t *testing.T) { wholeKind(t, Snapshots()) })
}

func wholeKind[T any](t *testing.T, k Kind[T]) {
	record := new(T)
	v := reflect.ValueOf(record).Elem()
	parts := map[string]any{"Spec": k.Spec(record), "Status": k.Status(record)}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "TypeMeta" || name == "ObjectMeta" {
			continue
		}
		if part := parts[name]; part == nil || part != v.Field(i).Addr().Interface() {
			t.Errorf("%s is unknown to the store", name)
		}
		delete(parts, name)
	}
	for name, part := range parts {
		if part != nil {
			t.Errorf("%s is no part of the record", name)
		}
	}
}
