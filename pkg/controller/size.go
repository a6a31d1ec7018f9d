package controller

import (
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// defaultBytes is the size of a volume for which none was asked: 1 GiB.
const defaultBytes = 1 << 30

// check refuses ranges that can never be met: negative bounds are invalid (CSI specification,
// CapacityRange), a limit below what is required is out of range.
func (r Range) check() error {
	switch {
	case r.Required < 0 || r.Limit < 0:
		return fault.New(fault.Invalid, "a size must not be negative: required %d bytes, limit %d bytes", r.Required, r.Limit)
	case r.Limit > 0 && r.Required > r.Limit:
		return fault.New(fault.OutOfRange, "required are %d bytes, more than the limit of %d bytes", r.Required, r.Limit)
	}
	return nil
}

// holds tells whether a volume of that size is what the range asks for.
func (r Range) holds(bytes int64) bool {
	return bytes >= r.Required && (r.Limit == 0 || bytes <= r.Limit)
}

// resolve returns the size that a datastore with that granularity and least size gives a volume: the least
// that it can and that is no less than required. Where that is over the limit it is fault.OutOfRange.
func (r Range) resolve(granularity, least int64) (int64, error) {
	want := r.Required
	if want == 0 {
		want = defaultBytes
		if r.Limit > 0 && r.Limit < want {
			want = r.Limit / granularity * granularity
		}
	}
	bytes, ok := roundUp(max(want, least), granularity)
	if !ok {
		return 0, fault.New(fault.OutOfRange, "%d bytes are more than any volume can have", r.Required)
	}
	if r.Limit > 0 && bytes > r.Limit {
		return 0, fault.New(fault.OutOfRange,
			"the smallest volume that holds %d bytes here has %d bytes (at least %d, in steps of %d), over the limit of %d bytes",
			r.Required, bytes, least, granularity, r.Limit)
	}
	return bytes, nil
}

func roundUp(n, step int64) (int64, bool) {
	if step <= 1 {
		return n, true
	}
	if n > math.MaxInt64-step {
		return 0, false
	}
	return (n + step - 1) / step * step, true
}
