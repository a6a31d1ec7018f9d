package driver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// codeOf maps the kinds of fault to the codes of gRPC. A conflict that leaves the domain lost against
// another call again and again: the caller may try again.
var codeOf = map[fault.Kind]codes.Code{
	fault.Internal:     codes.Internal,
	fault.Invalid:      codes.InvalidArgument,
	fault.NotFound:     codes.NotFound,
	fault.Exists:       codes.AlreadyExists,
	fault.Conflict:     codes.Aborted,
	fault.Busy:         codes.Aborted,
	fault.Exhausted:    codes.ResourceExhausted,
	fault.OutOfRange:   codes.OutOfRange,
	fault.Precondition: codes.FailedPrecondition,
	fault.Unavailable:  codes.Unavailable,
	fault.DataLoss:     codes.DataLoss,
}

// answer gives an error of the domain the code that the caller decides by.
func answer(err error) error {
	var classified *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &classified) && classified.Kind != fault.Unavailable:
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error()+"; the work goes on, the same call finds its result")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error()+"; the work goes on, the same call finds its result")
	}
	return status.Error(codeOf[fault.KindOf(err)], err.Error())
}

func invalid(format string, args ...any) error {
	return answer(fault.New(fault.Invalid, format, args...))
}
