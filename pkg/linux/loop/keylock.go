package loop

import (
	"context"
	"sync"
)

// keyLock lets one goroutine at a time work on an image. The zero value is ready.
type keyLock struct {
	mu   sync.Mutex
	held map[imageKey]*turn
}

// turn is the right to work on one image; users counts who has it or waits for it.
type turn struct {
	token chan struct{}
	users int
}

// lock waits until the image is nobody else's, or ctx ends, and returns how to give it back.
func (l *keyLock) lock(ctx context.Context, k imageKey) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	t := l.held[k]
	if t == nil {
		if l.held == nil {
			l.held = map[imageKey]*turn{}
		}
		t = &turn{token: make(chan struct{}, 1)}
		l.held[k] = t
	}
	t.users++
	l.mu.Unlock()

	select {
	case t.token <- struct{}{}:
		return func() { <-t.token; l.leave(k, t) }, nil
	case <-ctx.Done():
		l.leave(k, t)
		return nil, ctx.Err()
	}
}

// leave forgets the turn with its last user.
func (l *keyLock) leave(k imageKey, t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(l.held, k)
	}
}
