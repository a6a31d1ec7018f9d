package harness

import (
	"context"
	"fmt"
	"time"
)

// Eventually looks again and again until a check passes, and returns its last error if it never does before ctx or
// the limit ends. It is for what no event tells a stranger: what a driver does by itself after its answer.
func Eventually(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still after %v: %w", limit, err)
		case <-ticker.C:
		}
	}
}

// Settles waits until the machine looks as on an earlier photo.
func (c Camera) Settles(ctx context.Context, before Photo, limit time.Duration) error {
	return Eventually(ctx, limit, func() error {
		now, err := c.Take()
		if err != nil {
			return err
		}
		if diff := before.Diff(now); diff != "" {
			return fmt.Errorf("the machine looks different:\n%s", diff)
		}
		return nil
	})
}

// AtRest waits until the machine looks the same for a while, and returns that look: what was deleted may be wiped still.
func (c Camera) AtRest(ctx context.Context) (Photo, error) {
	const looks = 5
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	before, err := c.Take()
	for alike := 0; err == nil && alike < looks; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		now, taken := c.Take()
		if err = taken; err != nil {
			break
		}
		if alike++; before.Diff(now) != "" {
			alike = 0
		}
		before = now
	}
	return before, err
}
