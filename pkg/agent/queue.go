package agent

import (
	"context"
	"sync"
	"time"
)

// The back-off of a key whose work failed.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
)

// Queue runs work by key: a key that is added again while it waits is worked on once, one that is added
// while it is worked on is worked on again afterwards, and no key is ever worked on twice at once. Keys
// belong to groups; each group has workers of its own, so that one whose work hangs delays no other. A
// key whose work failed comes again by itself, later each time.
//
// Workers are goroutines that live only while their group has work.
type Queue struct {
	work    func(key string) error
	workers int

	mu      sync.Mutex
	groups  map[string]*group
	stopped bool
	running sync.WaitGroup
}

type group struct {
	waiting []string
	workers int
	keys    map[string]*item
}

type item struct {
	queued, working, again bool
	delay                  time.Duration
	timer                  *time.Timer
}

// NewQueue returns a queue with that many workers a group, whose work is given ctx.
func NewQueue(ctx context.Context, workers int, work func(ctx context.Context, key string) error) *Queue {
	return &Queue{
		work:    func(key string) error { return work(ctx, key) },
		workers: workers, groups: map[string]*group{},
	}
}

// Add has a key worked on now. It ends a back-off.
func (q *Queue) Add(name, key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(name, key)
}

func (q *Queue) add(name, key string) {
	if q.stopped {
		return
	}
	g := q.groups[name]
	if g == nil {
		g = &group{keys: map[string]*item{}}
		q.groups[name] = g
	}
	i := g.keys[key]
	if i == nil {
		i = &item{}
		g.keys[key] = i
	}
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
	switch {
	case i.working:
		i.again = true
		return
	case i.queued:
		return
	}
	i.queued = true
	g.waiting = append(g.waiting, key)
	if g.workers < q.workers {
		g.workers++
		q.running.Go(func() { q.drain(name, g) })
	}
}

// Wake ends the back-off of a key, in whatever groups it waits.
func (q *Queue) Wake(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, g := range q.groups {
		if i := g.keys[key]; i != nil && i.timer != nil {
			q.add(name, key)
		}
	}
}

// drain works until its group has nothing left.
func (q *Queue) drain(name string, g *group) {
	for {
		q.mu.Lock()
		if len(g.waiting) == 0 || q.stopped {
			g.workers--
			if g.workers == 0 && len(g.keys) == 0 {
				delete(q.groups, name)
			}
			q.mu.Unlock()
			return
		}
		key := g.waiting[0]
		g.waiting = g.waiting[1:]
		i := g.keys[key]
		i.queued, i.working = false, true
		q.mu.Unlock()

		err := q.work(key)

		q.mu.Lock()
		q.finish(name, g, key, i, err)
		q.mu.Unlock()
	}
}

// finish decides what comes after a key's work. The lock is held.
func (q *Queue) finish(name string, g *group, key string, i *item, err error) {
	i.working = false
	switch {
	case i.again:
		i.again = false
		q.add(name, key)
	case err == nil || q.stopped:
		delete(g.keys, key)
	default:
		i.delay = min(max(firstDelay, 2*i.delay), lastDelay)
		i.timer = time.AfterFunc(i.delay, func() { q.Add(name, key) })
	}
}

// Length returns how many keys wait, are worked on, or back off.
func (q *Queue) Length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, g := range q.groups {
		n += len(g.keys)
	}
	return n
}

// Stop takes no more work and waits for what is under way as long as ctx lasts: work that hangs in the
// kernel is left behind.
func (q *Queue) Stop(ctx context.Context) {
	q.mu.Lock()
	q.stopped = true
	for _, g := range q.groups {
		for _, i := range g.keys {
			if i.timer != nil {
				i.timer.Stop()
			}
		}
	}
	q.mu.Unlock()
	done := make(chan struct{})
	go func() {
		q.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
