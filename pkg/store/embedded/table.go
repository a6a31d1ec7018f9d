package embedded

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// table keeps the records of one kind in memory and hands writes to the writer.
type table[T any, P store.Record[T]] struct {
	kind[T]
	db *DB

	mu      sync.RWMutex
	records map[string]*T // nil once the store is closed
	sorted  []*T          // the same, by name
	queues  queues

	// staged are the records that the present batch writes, nil where it removes them; order is theirs.
	// Only the writer's goroutine uses them.
	staged map[string]*T
	order  []string
}

func newTable[T any, P store.Record[T]](db *DB, k kind[T]) *table[T, P] {
	return &table[T, P]{kind: k, db: db, records: map[string]*T{}, staged: map[string]*T{}, queues: newQueues()}
}

// Get implements store.Table.
func (t *table[T, P]) Get(ctx context.Context, name string) (*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, t.failed(err, "get", name)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return nil, t.failed(errClosed(t.db.config.Path), "get", name)
	}
	if record, ok := t.records[name]; ok {
		return record, nil
	}
	if err := checkName(name); err != nil {
		return nil, t.failed(err, "get", name)
	}
	return nil, t.failed(errNotFound(), "get", name)
}

// List implements store.Table. It never lags.
func (t *table[T, P]) List(ctx context.Context) ([]*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, t.failed(err, "list", "")
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.records == nil {
		return nil, t.failed(errClosed(t.db.config.Path), "list", "")
	}
	return slices.Clone(t.sorted), nil
}

// Create implements store.Table.
func (t *table[T, P]) Create(ctx context.Context, record *T) (*T, error) {
	return t.write(ctx, "create", P(record).GetName(), record, t.created)
}

// Update implements store.Table. Where nothing differs from what is stored, nothing is written.
func (t *table[T, P]) Update(ctx context.Context, record *T) (*T, error) {
	return t.write(ctx, "update", P(record).GetName(), record, t.updated)
}

// UpdateStatus implements store.Table. Where nothing differs from what is stored, nothing is written.
func (t *table[T, P]) UpdateStatus(ctx context.Context, record *T) (*T, error) {
	return t.write(ctx, "update status of", P(record).GetName(), record, t.statusUpdated)
}

// Delete implements store.Table.
func (t *table[T, P]) Delete(ctx context.Context, name, uid string) error {
	_, err := t.write(ctx, "delete", name, nil, func(old, _ *T) (*T, bool, error) { return t.deleted(old, uid) })
	return err
}

// verdict says what a write makes of a record: its next version, and whether that is gone with it. The
// next version is old itself where nothing is to be written. Old is nil where there is no record; in is
// the caller's record, settled.
type verdict[T any] func(old, in *T) (next *T, gone bool, err error)

// write has the writer judge and store one record. It returns the version that was stored, or the last
// one where the record is gone.
func (t *table[T, P]) write(ctx context.Context, verb, name string, in *T, judge verdict[T]) (*T, error) {
	if err := checkName(name); err != nil {
		return nil, t.failed(err, verb, name)
	}
	if in != nil {
		in = settle[T, P](in)
	}
	var written *T
	err := step.Do(ctx, "write "+t.word+" record "+name+" ("+verb+")", func() error {
		return t.db.writer.submit(ctx, func(b *batch) error {
			var err error
			written, err = t.stage(b, name, in, judge)
			return err
		})
	})
	if err != nil {
		// The writer may still be at work on it where ctx ended: written is not looked at.
		return nil, t.failed(err, verb, name)
	}
	return written, nil
}

// stage judges one write against memory and what the batch wrote before, and adds it to the batch.
func (t *table[T, P]) stage(b *batch, name string, in *T, judge verdict[T]) (*T, error) {
	old, ok := t.staged[name]
	if !ok {
		old = t.records[name] // only the writer changes the map: no lock
	}
	next, gone, err := judge(old, in)
	if err != nil || (next == old && !gone) {
		return old, err
	}
	version := b.nextVersion()
	var value []byte // of a record that is gone: none
	stored := next
	if gone {
		stored = nil
	} else {
		P(next).SetResourceVersion(version)
		if value, err = encode(next); err != nil {
			return nil, err
		}
	}
	b.put(t, t.bucket, name, value)
	if !ok {
		t.order = append(t.order, name)
	}
	t.staged[name] = stored
	return next, nil
}

// publish makes what the batch wrote visible. The writer calls it after the commit.
func (t *table[T, P]) publish() {
	t.mu.Lock()
	for _, name := range t.order {
		t.set(name, t.staged[name])
		t.queues.changed(name)
	}
	t.mu.Unlock()
	t.discard()
}

// discard forgets what the batch wrote.
func (t *table[T, P]) discard() {
	clear(t.staged)
	t.order = t.order[:0]
}

// set puts a record into memory, or takes it out where it is nil.
func (t *table[T, P]) set(name string, record *T) {
	i, there := slices.BinarySearchFunc(t.sorted, name, func(r *T, name string) int {
		return strings.Compare(P(r).GetName(), name)
	})
	switch {
	case record == nil && there:
		t.sorted = slices.Delete(t.sorted, i, i+1)
	case record != nil && there:
		t.sorted[i] = record
	case record != nil:
		t.sorted = slices.Insert(t.sorted, i, record)
	}
	if record == nil {
		delete(t.records, name)
	} else {
		t.records[name] = record
	}
}

// current returns a record as memory has it, encoded; nil where there is none. Only the writer calls it.
func (t *table[T, P]) current(name string) ([]byte, error) {
	record, ok := t.records[name]
	if !ok {
		return nil, nil
	}
	return encode(record)
}

// close empties the table and ends its watches.
func (t *table[T, P]) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records, t.sorted = nil, nil
	t.queues.close()
}

// failed names what was tried on which record. A nil error stays nil.
func (t *table[T, P]) failed(err error, verb, name string) error {
	if name == "" {
		return fault.Wrap(err, verb, t.word+" records")
	}
	return fault.Wrap(err, verb, t.word+" record "+shown(name))
}

// shown is a name as errors have it: one that is no name is quoted and cut.
func shown(name string) string {
	if checkName(name) == nil {
		return name
	}
	const most = 64
	if len(name) > most {
		return strconv.Quote(name[:most]) + "..."
	}
	return strconv.Quote(name)
}

func checkName(name string) error {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fault.New(fault.Invalid, "the name is no DNS subdomain: %s", strings.Join(problems, "; "))
	}
	return nil
}

func (t *table[T, P]) bucketName() string { return t.bucket }

// load reads all records of the file, on all cores: decoding is nearly all of the time that Open takes.
func (t *table[T, P]) load(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(t.bucket))
	if b == nil {
		return damaged(fmt.Errorf("bucket %q is missing", t.bucket))
	}
	type entry struct{ key, value []byte }
	var entries []entry
	if err := b.ForEach(func(key, value []byte) error {
		entries = append(entries, entry{key, value})
		return nil
	}); err != nil {
		return damaged(err)
	}
	t.sorted = make([]*T, len(entries)) // keys come in their order
	var workers errgroup.Group
	share := len(entries)/runtime.GOMAXPROCS(0) + 1
	for from := 0; from < len(entries); from += share {
		workers.Go(func() error {
			for i := from; i < min(from+share, len(entries)); i++ {
				name := string(entries[i].key)
				record, err := decode[T, P](name, entries[i].value)
				if err != nil {
					return damaged(fmt.Errorf("%s record %s: %w", t.word, shown(name), err))
				}
				t.sorted[i] = record
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	for _, record := range t.sorted {
		t.records[P(record).GetName()] = record
	}
	return nil
}
