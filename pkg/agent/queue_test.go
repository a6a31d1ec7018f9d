package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const soon = time.Minute

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatalf("no %s within %s", what, soon)
		panic("unreachable")
	}
}

func stop(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	q.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the queue did not stop")
	}
}

func TestAKeyIsNeverWorkedOnTwiceAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	var inside, most atomic.Int32
	ran := make(chan struct{}, 200)
	q := NewQueue(t.Context(), 8, func(context.Context, string) error {
		most.Store(max(most.Load(), inside.Add(1)))
		time.Sleep(time.Millisecond) //nolint:forbidigo // waits for nothing: overlap, if it can be had, shows here
		inside.Add(-1)
		ran <- struct{}{}
		return nil
	})
	for range 100 {
		q.Add("pool", "volume")
	}
	receive(t, ran, "work")
	for range 100 {
		q.Add("pool", "volume")
	}
	receive(t, ran, "work again")
	stop(t, q)
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
}

func TestAKeyAddedDuringItsWorkIsWorkedOnAgain(t *testing.T) {
	entered, leave := make(chan int), make(chan struct{})
	n := 0
	q := NewQueue(t.Context(), 2, func(context.Context, string) error {
		n++
		entered <- n
		<-leave
		return nil
	})
	q.Add("pool", "volume")
	receive(t, entered, "work")
	q.Add("pool", "volume")
	q.Add("pool", "volume")
	leave <- struct{}{}
	if got := receive(t, entered, "second work"); got != 2 {
		t.Errorf("run %d", got)
	}
	leave <- struct{}{}
	stop(t, q)
	if n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

func TestAGroupThatHangsDelaysNoOther(t *testing.T) {
	hang, done := make(chan struct{}), make(chan string, 100)
	q := NewQueue(t.Context(), 2, func(_ context.Context, key string) error {
		if key[0] == 'h' {
			<-hang
		}
		done <- key
		return nil
	})
	for i := range 20 {
		q.Add("broken", fmt.Sprint("h", i))
	}
	q.Add("good", "g")
	if got := receive(t, done, "work of the good group"); got != "g" {
		t.Errorf("got %s first", got)
	}
	close(hang)
	for range 20 {
		receive(t, done, "work of the broken group")
	}
	stop(t, q)
}

func TestFailedWorkComesAgainByItself(t *testing.T) {
	runs := make(chan time.Time, 10)
	var mu sync.Mutex
	failures := 2
	q := NewQueue(t.Context(), 1, func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		runs <- time.Now()
		if failures--; failures >= 0 {
			return errors.New("not yet")
		}
		return nil
	})
	q.Add("pool", "volume")
	first, second, third := receive(t, runs, "try"), receive(t, runs, "second try"), receive(t, runs, "third try")
	if second.Sub(first) < firstDelay || third.Sub(second) < 2*firstDelay {
		t.Errorf("tries after %s and %s: no back-off", second.Sub(first), third.Sub(second))
	}
	stop(t, q)
	if q.Length() != 0 {
		t.Errorf("%d keys left", q.Length())
	}
}

func TestAddAndWakeEndABackOff(t *testing.T) {
	for name, again := range map[string]func(*Queue){
		"Add":  func(q *Queue) { q.Add("pool", "volume") },
		"Wake": func(q *Queue) { q.Wake("volume") },
	} {
		t.Run(name, func(t *testing.T) {
			// The next try would come after 1.6 s or more. A busy machine may be late once, not each time.
			for range 5 {
				if took := tryAfter(t, again); took < time.Second {
					return
				}
			}
			t.Error("it waits for the back-off")
		})
	}
}

func TestWakeTakesUpNothingElse(t *testing.T) {
	q := NewQueue(t.Context(), 1, func(context.Context, string) error {
		t.Error("it was worked on")
		return nil
	})
	q.Wake("volume")
	stop(t, q)
	if q.Length() != 0 {
		t.Errorf("%d keys wait", q.Length())
	}
}

// backsOff waits until a key waits for its next try.
func (q *Queue) backsOff(key string) {
	for waits := false; !waits; runtime.Gosched() {
		q.mu.Lock()
		i := q.groups["pool"].keys[key]
		waits = i != nil && i.timer != nil
		q.mu.Unlock()
	}
}

// tryAfter is how long it takes until a key that is in back-off is tried after something was done about it.
func tryAfter(t *testing.T, again func(*Queue)) time.Duration {
	t.Helper()
	runs := make(chan struct{}, 10)
	fail := atomic.Bool{}
	fail.Store(true)
	q := NewQueue(t.Context(), 1, func(context.Context, string) error {
		runs <- struct{}{}
		if fail.Load() {
			return errors.New("not yet")
		}
		return nil
	})
	defer stop(t, q)
	q.Add("pool", "volume")
	for range 5 {
		receive(t, runs, "try")
	}
	q.backsOff("volume")
	fail.Store(false)
	began := time.Now()
	again(q)
	receive(t, runs, "try after that")
	return time.Since(began)
}

func TestStopLeavesWorkThatHangsBehind(t *testing.T) {
	hang, entered := make(chan struct{}), make(chan struct{})
	q := NewQueue(t.Context(), 1, func(context.Context, string) error {
		close(entered)
		<-hang
		return nil
	})
	q.Add("pool", "volume")
	receive(t, entered, "work")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	q.Stop(ctx)
	q.Add("pool", "other")
	close(hang)
	stop(t, q)
}
