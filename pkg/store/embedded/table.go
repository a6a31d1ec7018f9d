package embedded

import (
	"context"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/memory"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// table keeps the records of one kind in memory, where they are read, and hands writes to the writer.
type table[T any, P store.Record[T]] struct {
	*memory.Table[T, P]
	kind record.Kind[T]
	db   *DB

	// staged are the records that the present batch writes, nil where it removes them; order is theirs.
	// Only the writer's goroutine uses them.
	staged map[string]*T
	order  []string
}

func newTable[T any, P store.Record[T]](db *DB, k record.Kind[T]) *table[T, P] {
	closed := func() error { return errClosed(db.config.Path) }
	return &table[T, P]{kind: k, Table: memory.New[T, P](k.Word, closed), db: db, staged: map[string]*T{}}
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
	if err := record.CheckName(name); err != nil {
		return nil, t.Failed(err, verb, name)
	}
	if in != nil {
		in = record.Settle[T, P](in)
	}
	var written *T
	err := step.Do(ctx, "write "+t.kind.Word+" record "+name+" ("+verb+")", func() error {
		return t.db.writer.submit(ctx, func(b *batch) error {
			var err error
			written, err = t.stage(b, name, in, judge)
			return err
		})
	})
	if err != nil {
		// The writer may still be at work on it where ctx ended: written is not looked at.
		return nil, t.Failed(err, verb, name)
	}
	return written, nil
}

// stage judges one write against memory and what the batch wrote before, and adds it to the batch.
func (t *table[T, P]) stage(b *batch, name string, in *T, judge verdict[T]) (*T, error) {
	old, ok := t.staged[name]
	if !ok {
		old = t.Peek(name)
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
	b.put(t, t.kind.Plural, name, value)
	if !ok {
		t.order = append(t.order, name)
	}
	t.staged[name] = stored
	return next, nil
}

// publish makes what the batch wrote visible. The writer calls it after the commit.
func (t *table[T, P]) publish() {
	t.Put(func(name string) *T { return t.staged[name] }, t.order...)
	t.discard()
}

// discard forgets what the batch wrote.
func (t *table[T, P]) discard() {
	clear(t.staged)
	t.order = t.order[:0]
}

// current returns a record as memory has it, encoded; nil where there is none. Only the writer calls it.
func (t *table[T, P]) current(name string) ([]byte, error) {
	r := t.Peek(name)
	if r == nil {
		return nil, nil
	}
	return encode(r)
}

func (t *table[T, P]) bucketName() string { return t.kind.Plural }

// load reads all records of the file, on all cores: decoding is nearly all of the time that Open takes.
func (t *table[T, P]) load(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(t.kind.Plural))
	if b == nil {
		return damaged(fmt.Errorf("bucket %q is missing", t.kind.Plural))
	}
	type entry struct{ key, value []byte }
	var entries []entry
	if err := b.ForEach(func(key, value []byte) error {
		entries = append(entries, entry{key, value})
		return nil
	}); err != nil {
		return damaged(err)
	}
	sorted := make([]*T, len(entries)) // keys come in their order
	var workers errgroup.Group
	share := len(entries)/runtime.GOMAXPROCS(0) + 1
	for from := 0; from < len(entries); from += share {
		workers.Go(func() error {
			for i := from; i < min(from+share, len(entries)); i++ {
				name := string(entries[i].key)
				r, err := decode[T, P](name, entries[i].value)
				if err != nil {
					return damaged(fmt.Errorf("%s record %s: %w", t.kind.Word, record.Shown(name), err))
				}
				sorted[i] = r
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	t.Load(sorted)
	return nil
}
