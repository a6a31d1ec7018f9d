package directory

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// manyEntries is from how many volumes on they are not looked at each time that the pool is measured, but only
	// after as many times restPerEntry: a pool is measured whenever a volume comes or goes.
	manyEntries  = 1000
	restPerEntry = 300 * time.Microsecond
)

// usage is what others than the pool's volumes had in use when these were looked at last. It may be used by many calls.
type usage struct {
	measuring sync.Mutex // held by the call that measures
	at        time.Time
	entries   int
	others    int64
	// seen is what left was when the volumes were looked at last.
	seen int64

	// left are the bytes of all volumes that were taken out of use since the pool was opened.
	left atomic.Int64
}

// leave tells that a volume which took that many bytes is out of use, while its bytes are still there.
func (u *usage) leave(bytes int64) { u.left.Add(bytes) }

// measure returns how much of what is in use is the pool's own, and the file system's figures of the same moment.
//
// Between two looks at many volumes all that changes is taken for theirs, but what a volume had when it was taken out
// of use: else it would be promised again before it is free.
func (p *pool) measure(ctx context.Context, root *file.Root) (int64, file.Filesystem, error) {
	u := &p.usage
	u.measuring.Lock()
	defer u.measuring.Unlock()
	now := p.tools.Now()
	since := now.Sub(u.at)
	look := u.entries < manyEntries || since < 0 || since >= time.Duration(u.entries)*restPerEntry
	left := u.left.Load() // before the look: what leaves meanwhile may be in it
	var own int64
	if look {
		var err error
		if own, u.entries, err = p.ownBytes(ctx, root); err != nil {
			u.entries = 0
			return 0, file.Filesystem{}, err
		}
	}
	fs, err := root.Filesystem()
	if err != nil {
		u.entries = 0
		return 0, file.Filesystem{}, err
	}
	used := fs.Total - fs.Free
	if look {
		u.at, u.others, u.seen = now, max(0, used-own), left
	}
	return max(0, used-u.others-(u.left.Load()-u.seen)), fs, nil
}

// ownBytes adds up what volumes and snapshots take, also those that are being made, and counts them.
func (p *pool) ownBytes(ctx context.Context, root *file.Root) (sum int64, entries int, err error) {
	all, err := p.scan(ctx, root)
	if err != nil {
		return 0, 0, err
	}
	for format, b := range p.bodies {
		bytes, err := b.own(ctx, root, all[format])
		if err != nil {
			return 0, 0, err
		}
		sum += bytes
		entries += len(all[format])
	}
	return sum, entries, nil
}
