package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// copies are the copies that are under way, each by its key (datastore.Volume.Key) with its source's: those
// that a call of this process began, from before it looks at the source, and those that a record asks for.
type copies struct {
	mu              sync.Mutex
	begun, recorded map[string]string
}

func newCopies() *copies {
	return &copies{begun: map[string]string{}, recorded: map[string]string{}}
}

// begin is called before a copy's source is looked at; the function that it returns after the record was made
// and recorded, or not.
func (c *copies) begin(key, source string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[key] = source
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.begun, key)
	}
}

// record says what a record asks for; source "" is no copy, or one that is whole or gone.
func (c *copies) record(key, source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if source == "" {
		delete(c.recorded, key)
		return
	}
	c.recorded[key] = source
}

// of returns the copies of a source, sorted, and which of them a call of this process has begun.
func (c *copies) of(source string) (keys []string, begun map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]bool{}
	for key, s := range c.recorded {
		if s == source {
			found[key] = false
		}
	}
	for key, s := range c.begun {
		if s == source {
			found[key] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), found
}

// volumeKey and snapshotKey are the keys of what has that ID; sourceKey is a source's.
func volumeKey(id string) string   { return datastore.Volume{ID: id}.Key() }
func snapshotKey(id string) string { return datastore.Volume{ID: id, Snapshot: true}.Key() }

func sourceKey(kind v1alpha1.SourceKind, id string) string {
	return datastore.Volume{ID: id, Snapshot: kind == v1alpha1.SourceSnapshot}.Key()
}

// making tells whether the worker may still be copying.
func making(w v1alpha1.WorkerStatus) bool {
	return w.Phase == v1alpha1.Pending || w.Phase == v1alpha1.Creating
}

// underWay is fault.Busy where something is being copied from a source, or may be in a moment, and says what, and how
// far it is.
func (c *Controller) underWay(ctx context.Context, source string) error {
	return c.copiesOf(ctx, source, true)
}

// recorded is underWay for copies that have a record.
func (c *Controller) recorded(ctx context.Context, source string) error {
	return c.copiesOf(ctx, source, false)
}

func (c *Controller) copiesOf(ctx context.Context, source string, alsoBegun bool) error {
	keys, begun := c.copies.of(source)
	var out []string
	for _, key := range keys {
		what, worker, err := c.copyOf(ctx, key)
		switch {
		case fault.Is(err, fault.NotFound) && begun[key] && alsoBegun, err == nil && making(worker):
			out = append(out, what+progress(worker.Progress))
		case err != nil && !fault.Is(err, fault.NotFound):
			return err
		}
	}
	if len(out) == 0 {
		return nil
	}
	return fault.New(fault.Busy, "it is being copied to %s; try again when that is done", strings.Join(out, ", "))
}

// copyOf reads the record of a copy as it is now.
func (c *Controller) copyOf(ctx context.Context, key string) (what string, w v1alpha1.WorkerStatus, err error) {
	id, isSnapshot := datastore.ParseKey(key)
	if isSnapshot {
		what = fmt.Sprintf("snapshot %q", id)
		s, err := c.config.Store.Snapshots.Get(ctx, id)
		if err != nil {
			return what, w, err
		}
		return what, s.Status.Worker, nil
	}
	what = fmt.Sprintf("volume %q", id)
	v, err := c.config.Store.Volumes.Get(ctx, id)
	if err != nil {
		return what, w, err
	}
	return what, v.Status.Worker, nil
}
