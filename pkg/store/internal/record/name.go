// Package record is what every store does with a single record: it checks names, and makes a record fit to be shared.
package record

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// CheckName refuses a name that no record can have, as fault.Invalid.
func CheckName(name string) error {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fault.New(fault.Invalid, "the name is no DNS subdomain: %s", strings.Join(problems, "; "))
	}
	return nil
}

// Shown is a name as errors have it: one that is no name is quoted and cut.
func Shown(name string) string {
	if CheckName(name) == nil {
		return name
	}
	const most = 64
	if len(name) > most {
		return strconv.Quote(name[:most]) + "..."
	}
	return strconv.Quote(name)
}

// NotFound is the error of a record that is not there.
func NotFound() error { return fault.New(fault.NotFound, "there is no record of that name") }
