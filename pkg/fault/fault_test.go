package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestErrorNamesOperationAndObject(t *testing.T) {
	cause := fault.New(fault.Exhausted, "no room: %w", io.ErrShortWrite)
	for name, c := range map[string]struct{ op, object, want string }{
		"both":           {"create volume", "pvc-1", "create volume pvc-1: no room: short write"},
		"operation only": {"create volume", "", "create volume: no room: short write"},
		"object only":    {"", "pvc-1", "pvc-1: no room: short write"},
		"neither":        {"", "", "no room: short write"},
	} {
		t.Run(name, func(t *testing.T) {
			err := fault.Wrap(cause, c.op, c.object)
			if got := err.Error(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !fault.Is(err, fault.Exhausted) || !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("wrapping lost the kind or the cause: %v", err)
			}
		})
	}
}

func TestKindOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"an unclassified error is internal":    {io.EOF, fault.Internal},
		"a kind survives fmt.Errorf":           {fmt.Errorf("x: %w", fault.New(fault.Busy, "y")), fault.Busy},
		"the outermost kind counts":            {fault.As(fault.Invalid, fault.New(fault.Busy, "y")), fault.Invalid},
		"a deadline is unavailable":            {fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Unavailable},
		"a cancelled context is unavailable":   {context.Canceled, fault.Unavailable},
		"wrapping an unclassified error keeps": {fault.Wrap(io.EOF, "read", "f"), fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fault.KindOf(c.err); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if fault.Is(nil, fault.Internal) || fault.Wrap(nil, "a", "b") != nil || fault.As(fault.Busy, nil) != nil {
		t.Error("nil must stay nil and be of no kind")
	}
}

func TestKindNamesAreInverse(t *testing.T) {
	for k := fault.Internal; k <= fault.DataLoss; k++ {
		if got := fault.ParseKind(k.String()); got != k {
			t.Errorf("ParseKind(%q) = %v", k.String(), got)
		}
	}
	if fault.ParseKind("nonsense") != fault.Internal {
		t.Error("an unknown name must be internal")
	}
}
