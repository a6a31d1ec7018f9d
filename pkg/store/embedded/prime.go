package embedded

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
)

// prime lets every quantity of a record make its text, which resource.Quantity.String otherwise writes
// into the quantity when it is first called: on a shared record that would be a data race. A map's
// values cannot be addressed, so that their text is only ever made in copies.
func prime(record any) { primeValue(reflect.ValueOf(record).Elem()) }

func primeValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			primeValue(v.Elem())
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer {
			for i := range v.Len() {
				primeValue(v.Index(i))
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[resource.Quantity]() {
			_ = v.Addr().Interface().(*resource.Quantity).String() //nolint:errcheck // just compared
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				primeValue(v.Field(i))
			}
		}
	}
}
