package record

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Settle returns a copy of a record that shares nothing with it, as it would be read back from a store:
// times have seconds only.
func Settle[T any, P store.Record[T]](record *T) *T {
	settled := P(record).DeepCopy()
	Finish(settled)
	return settled
}

// Finish makes a record fit to be shared. It cuts times to seconds, which is what their JSON holds; and
// it lets every quantity make its text, which resource.Quantity.String otherwise writes into the
// quantity when it is first called: on a shared record that would be a data race. A map's values cannot
// be addressed, so that their text is only ever made in copies.
func Finish(record any) { finishValue(reflect.ValueOf(record).Elem()) }

func finishValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			finishValue(v.Elem())
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer {
			for i := range v.Len() {
				finishValue(v.Index(i))
			}
		}
	case reflect.Struct:
		finishStruct(v)
	}
}

func finishStruct(v reflect.Value) {
	switch field := v.Addr().Interface().(type) {
	case *resource.Quantity:
		_ = field.String()
	case *metav1.Time:
		*field = WholeSeconds(field.Time)
	default:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				finishValue(v.Field(i))
			}
		}
	}
}

// WholeSeconds returns a time as it is after a way through JSON.
func WholeSeconds(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(time.Unix(t.Unix(), 0))
}
