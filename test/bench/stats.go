package main

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// latency sums up how long calls took, in milliseconds. Percentiles are by nearest rank.
type latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func sum(took []time.Duration) latency {
	s := slices.Sorted(slices.Values(took))
	return latency{len(s), percentile(s, 50), percentile(s, 95), percentile(s, 99), percentile(s, 100)}
}

// percentile of a sorted slice, in milliseconds; 0 of none.
func percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return milliseconds(sorted[min(max(i, 0), len(sorted)-1)])
}

func milliseconds(d time.Duration) float64 { return round(float64(d.Nanoseconds())/1e6, 3) }

// round keeps so many digits behind the point.
func round(v float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(v*unit) / unit
}

// median of any numbers; 0 of none.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	switch n := len(s); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (s[n/2-1] + s[n/2]) / 2
	default:
		return s[n/2]
	}
}

// stopwatch takes the time of calls by name. It may be used by many at once.
type stopwatch struct {
	mu   sync.Mutex
	took map[string][]time.Duration
}

func newStopwatch() *stopwatch { return &stopwatch{took: map[string][]time.Duration{}} }

// time calls do and notes how long it took, unless it failed.
func (s *stopwatch) time(ctx context.Context, name string, do func(context.Context) error) error {
	began := time.Now()
	err := do(ctx)
	if err != nil {
		return err
	}
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[name] = append(s.took[name], took)
	return nil
}

func (s *stopwatch) latencies() map[string]latency {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]latency, len(s.took))
	for name, took := range s.took {
		out[name] = sum(took)
	}
	return out
}

// rival is one of two that do the same.
type rival struct {
	// do is timed, undo is not; undo may be nil.
	do, undo func(ctx context.Context, i int) error
}

// compare has two rivals take turns: A B B A.
func compare(ctx context.Context, pairs int, a, b rival) (ofA, ofB []time.Duration, err error) {
	took := [2][]time.Duration{}
	rivals := [2]rival{a, b}
	for i := range pairs {
		for j := range 2 {
			k := (i + j) % 2
			began := time.Now()
			if err := rivals[k].do(ctx, i); err != nil {
				return nil, nil, err
			}
			took[k] = append(took[k], time.Since(began))
			if rivals[k].undo == nil {
				continue
			}
			if err := rivals[k].undo(ctx, i); err != nil {
				return nil, nil, err
			}
		}
	}
	return took[0], took[1], nil
}
