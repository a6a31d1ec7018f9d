package v1alpha1

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// ReserveBytes returns how many bytes of a pool with that total the policy keeps back.
func (c CapacityPolicy) ReserveBytes(total int64) (int64, error) {
	if c.Reserve == "" {
		return 0, nil
	}
	if digits, ok := strings.CutSuffix(c.Reserve, "%"); ok {
		percent, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || percent > 100 {
			return 0, fmt.Errorf("%q is not a share from 0%% to 100%%", c.Reserve)
		}
		return Percent(total, int32(percent)), nil
	}
	q, err := resource.ParseQuantity(c.Reserve)
	if err != nil || q.Sign() < 0 {
		return 0, fmt.Errorf("%q is neither a share (5%%) nor a quantity of bytes (20Gi)", c.Reserve)
	}
	return q.Value(), nil
}

// Promisable returns how many bytes may be promised in all from a pool with that total, of which foreign
// bytes are taken by others.
func (c CapacityPolicy) Promisable(total, foreign int64) (int64, error) {
	reserve, err := c.ReserveBytes(total)
	if err != nil {
		return 0, err
	}
	overcommit := DefaultOvercommitPercent
	if c.OvercommitPercent != nil {
		overcommit = *c.OvercommitPercent
	}
	return max(0, Percent(total, overcommit)-reserve-foreign), nil
}

// Percent returns that share of n bytes, rounded down, and no more than fits.
func Percent(n int64, percent int32) int64 {
	if n <= 0 || percent <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n), uint64(percent))
	if hi >= 100 {
		return math.MaxInt64
	}
	share, _ := bits.Div64(hi, lo, 100)
	return int64(min(share, math.MaxInt64))
}

// Bytes makes a quantity of n bytes.
func Bytes(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.BinarySI) }

// Readable writes bytes for people, to one digit behind the point: 93.1Gi.
func Readable(n int64) string {
	const step = 1024
	units := []string{"B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	value, unit := float64(n), 0
	for value >= step && unit < len(units)-1 {
		value /= step
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%.1f%s", value, units[unit])
}
