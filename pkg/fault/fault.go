// Package fault gives errors a kind, so that a caller can decide on them without knowing who made
// them, and names the operation and the object in every one.
//
// The kinds are those of the domain, not of a wire protocol: pkg/driver maps them to gRPC codes in
// one table, and a record carries them by name (Kind.String, ParseKind).
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is.
type Kind int

// The kinds of error. Internal is the zero value: an error that nobody classified.
const (
	// Internal is a defect or an unexpected answer of the machine.
	Internal Kind = iota
	// Invalid is a request that can never succeed as it is.
	Invalid
	// NotFound is an object that does not exist.
	NotFound
	// Exists is an object of that name which differs from what was asked for.
	Exists
	// Conflict is a write that lost against a newer one (compare-and-swap).
	Conflict
	// Busy is other work on the same object: try again.
	Busy
	// Exhausted is a limit that is reached: space, count, or a cordoned datastore.
	Exhausted
	// OutOfRange is a size that can never be met.
	OutOfRange
	// Precondition is a state of the object that forbids the operation until somebody changes it.
	Precondition
	// Unavailable is a datastore, host or device that cannot be reached now.
	Unavailable
	// DataLoss is data that is known to be gone.
	DataLoss
)

var names = [...]string{
	Internal: "Internal", Invalid: "Invalid", NotFound: "NotFound", Exists: "Exists", Conflict: "Conflict",
	Busy: "Busy", Exhausted: "Exhausted", OutOfRange: "OutOfRange", Precondition: "Precondition",
	Unavailable: "Unavailable", DataLoss: "DataLoss",
}

// String returns the kind's name as records carry it.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return names[k]
}

// ParseKind is the inverse of Kind.String. A name that no kind has is Internal.
func ParseKind(s string) Kind {
	for k, n := range names {
		if n == s {
			return Kind(k)
		}
	}
	return Internal
}

// Error is an error with a kind. Op is what was tried ("create volume"), Object what it was tried on
// ("pvc-1 on datastore fast"); either may be empty. Err is the cause and is never nil.
type Error struct {
	Kind   Kind
	Op     string
	Object string
	Err    error
}

// Error joins operation, object and cause: "create volume pvc-1: no room".
func (e *Error) Error() string {
	switch {
	case e.Op == "" && e.Object == "":
		return e.Err.Error()
	case e.Op == "":
		return e.Object + ": " + e.Err.Error()
	case e.Object == "":
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Object + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind from a message, as fmt.Errorf does (%w wraps).
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// Wrap names the operation and the object of an error and keeps its kind. A nil error stays nil.
func Wrap(err error, op, object string) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Op: op, Object: object, Err: err}
}

// As gives an error another kind. A nil error stays nil.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err}
}

// KindOf returns the kind of the outermost classified error in err's chain. A context that ended is
// Unavailable, since the work may succeed when it is tried again; anything else is Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unavailable
	}
	return Internal
}

// Is tells whether err is of the kind. A nil error is of none.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
