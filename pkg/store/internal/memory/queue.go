package memory

import "sync"

// queue holds the names of changed records for one watch: each at most once, the first changed first, so
// that it never grows beyond the number of records however slow its reader is.
type queue struct {
	// only is the one name that the queue takes, or "" for every name.
	only string
	// wake has a token after names were added to an empty queue; ended is closed with the queue.
	wake, ended chan struct{}

	mu     sync.Mutex
	names  []string
	queued map[string]struct{} // what stands in names; unused where there is only one name
	closed bool
}

func newQueue(only string) *queue {
	return &queue{only: only, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// add queues a name, unless it stands in the queue already.
func (q *queue) add(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.only != "" && len(q.names) > 0 {
		return
	}
	if q.only == "" {
		if _, ok := q.queued[name]; ok {
			return
		}
		if q.queued == nil {
			q.queued = map[string]struct{}{}
		}
		q.queued[name] = struct{}{}
	}
	q.names = append(q.names, name)
	select {
	case q.wake <- struct{}{}:
	default: // the reader has not yet seen the last one
	}
}

// take returns the name that was queued first, and takes it out.
func (q *queue) take() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.names) == 0 {
		return "", false
	}
	name := q.names[0]
	q.names = q.names[1:]
	delete(q.queued, name)
	if len(q.names) == 0 {
		q.names, q.queued = nil, nil // a map does not shrink by itself
	}
	return name, true
}

// close ends the queue. It may be called twice.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.ended)
	}
}

// queues are those of a table's open watches. Those of one name are found by it, so that a write costs
// nothing for the watches of other records. The table's lock protects them.
type queues struct {
	all    map[*queue]struct{}
	byName map[string]map[*queue]struct{}
}

func newQueues() queues {
	return queues{all: map[*queue]struct{}{}, byName: map[string]map[*queue]struct{}{}}
}

func (s *queues) insert(q *queue) {
	if q.only == "" {
		s.all[q] = struct{}{}
		return
	}
	if s.byName[q.only] == nil {
		s.byName[q.only] = map[*queue]struct{}{}
	}
	s.byName[q.only][q] = struct{}{}
}

func (s *queues) remove(q *queue) {
	delete(s.all, q)
	delete(s.byName[q.only], q)
	if len(s.byName[q.only]) == 0 {
		delete(s.byName, q.only)
	}
}

// changed tells the watches concerned of a changed record.
func (s *queues) changed(name string) {
	for q := range s.all {
		q.add(name)
	}
	for q := range s.byName[name] {
		q.add(name)
	}
}

func (s *queues) close() {
	for q := range s.all {
		q.close()
	}
	for _, named := range s.byName {
		for q := range named {
			q.close()
		}
	}
	*s = newQueues()
}
