package embedded

import (
	"context"
	"errors"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// maxBatch bounds the writes of one transaction, so that none waits for a very long one.
const maxBatch = 256

// request is a write that waits for its batch.
type request struct {
	// ended tells whether the caller has gone.
	ended func() error
	// stage judges the write and adds it to the batch.
	stage func(*batch) error
	// answer takes the outcome. It has room for it: the caller may have gone.
	answer chan error
}

// target is a table as the writer sees it.
type target interface {
	publish()
	discard()
	current(name string) ([]byte, error)
}

// slot is where a record stands.
type slot struct {
	table  target
	bucket string
	name   string
}

// put is one record to be stored, or to be removed where the value is nil.
type put struct {
	slot
	value []byte
}

// batch is what one transaction writes.
type batch struct {
	version uint64
	puts    []put
}

// nextVersion gives out a resource version.
func (b *batch) nextVersion() string {
	b.version++
	return strconv.FormatUint(b.version, 10)
}

func (b *batch) put(t target, bucket, name string, value []byte) {
	b.puts = append(b.puts, put{slot{t, bucket, name}, value})
}

// writer commits writes: whatever is queued, in one transaction.
type writer struct {
	file     *bbolt.DB
	path     string
	requests chan request
	stop     chan struct{} // closed by Close
	stopped  chan struct{} // closed when the goroutine has ended

	// The goroutine's own: the last version given out and committed, and the records of failed
	// transactions that the file may hold all the same.
	version uint64
	doubt   map[slot]struct{}

	// commit is write, but in tests of what happens when it fails.
	commit func(*batch) error
}

func newWriter(file *bbolt.DB, path string, version uint64) *writer {
	w := &writer{
		file: file, path: path, version: version, doubt: map[slot]struct{}{},
		requests: make(chan request), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	w.commit = w.write
	return w
}

// submit queues a write and waits for its outcome. Where ctx ends first, its error is returned, and the
// write may still happen.
func (w *writer) submit(ctx context.Context, stage func(*batch) error) error {
	r := request{ended: ctx.Err, stage: stage, answer: make(chan error, 1)}
	// What the writer has received it answers: the channel has no room of its own.
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return errClosed(w.path)
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-r.answer:
		return err
	default:
		return ctx.Err()
	}
}

// run serves requests until stop is closed.
func (w *writer) run() {
	defer close(w.stopped)
	for {
		select {
		case <-w.stop:
			return
		case r := <-w.requests:
			w.serve(w.gather(r))
		}
	}
}

// gather returns a request and those that wait behind it.
func (w *writer) gather(first request) []request {
	requests := []request{first}
	for len(requests) < maxBatch {
		select {
		case r := <-w.requests:
			requests = append(requests, r)
		default:
			return requests
		}
	}
	return requests
}

// serve judges requests one after the other, commits what they write and answers all of them.
func (w *writer) serve(requests []request) {
	b := &batch{version: w.version}
	outcomes := make([]error, len(requests))
	for i, r := range requests {
		if outcomes[i] = r.ended(); outcomes[i] == nil {
			outcomes[i] = r.stage(b)
		}
	}
	// A refusal may rest on what the batch wrote before it, or on a record in doubt: without the commit
	// it would be wrong, so that a failure is everybody's.
	if err := w.settle(b); err != nil {
		for i := range outcomes {
			outcomes[i] = err
		}
	}
	for i, r := range requests {
		r.answer <- outcomes[i]
	}
}

// settle commits a batch, and makes it visible or undoes it.
func (w *writer) settle(b *batch) error {
	if len(b.puts) == 0 && len(w.doubt) == 0 {
		return nil
	}
	err := w.commit(b)
	for _, p := range b.puts {
		if err != nil {
			p.table.discard()
		} else {
			p.table.publish()
		}
	}
	if err != nil {
		if w.moved() {
			for _, p := range b.puts {
				w.doubt[p.slot] = struct{}{}
			}
		}
		return fault.New(fault.Unavailable, "commit to %s: %w: try again once the disk takes writes", w.path, err)
	}
	w.version = b.version
	clear(w.doubt)
	return nil
}

// write is one transaction: records in doubt as memory has them, then the batch.
func (w *writer) write(b *batch) error {
	return w.file.Update(func(tx *bbolt.Tx) error {
		for p := range w.doubt {
			value, err := p.table.current(p.name)
			if err != nil {
				return err
			}
			if err := (put{p, value}).store(tx); err != nil {
				return err
			}
		}
		for _, p := range b.puts {
			if err := p.store(tx); err != nil {
				return err
			}
		}
		return setVersion(tx, b.version)
	})
}

func (p put) store(tx *bbolt.Tx) error {
	bucket := tx.Bucket([]byte(p.bucket))
	if p.value == nil {
		return bucket.Delete([]byte(p.name))
	}
	return bucket.Put([]byte(p.name), p.value)
}

// moved tells whether the file may hold a transaction whose commit failed: bbolt reports a failed sync
// of its last page as an error, but readers of the file see the page already.
func (w *writer) moved() bool {
	same := errors.New("same")
	err := w.file.View(func(tx *bbolt.Tx) error {
		if version, err := readVersion(tx); err != nil || version != w.version {
			return err
		}
		return same
	})
	return !errors.Is(err, same)
}

// close ends the goroutine after the batch that it is at.
func (w *writer) close() {
	close(w.stop)
	<-w.stopped
}

func errClosed(path string) error {
	return fault.New(fault.Unavailable, "the store %s is closed", path)
}
