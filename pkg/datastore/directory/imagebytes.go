package directory

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// workName is the file beside a copy that is under way which says how far it is.
	workName = "copy.json"
	maxWork  = 64 << 10
	// syncedAtOnce is how much of a copy is made durable at a time, in bytes: what a crash costs at most.
	syncedAtOnce = 64 << 20
)

// work is how far a copy is, and of what.
type work struct {
	// Source that was read. Where it was changed since, the copy begins again.
	Source identity `json:"source"`
	// Origin tells that the source is a file beside the copy.
	Origin bool `json:"origin,omitempty"`
	// Family of those that the origin shares blocks with.
	Family string `json:"family,omitempty"`
	// TakenAt is the instant that the copy is of.
	TakenAt time.Time `json:"takenAt"`
	// Offset in bytes before which all is copied and durable, Done how many of that are data.
	Offset int64 `json:"offset"`
	Done   int64 `json:"done"`
}

// identity tells an image from another, and from itself after it was changed. The kernel sets both times at each
// write and discard, whoever makes it.
type identity struct {
	UID      string    `json:"uid"`
	Inode    uint64    `json:"inode"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
	Changed  time.Time `json:"changed"`
}

func identify(f *os.File, uid string) (identity, file.Info, error) {
	info, err := file.StatFile(f)
	return identity{
		UID: uid, Inode: info.Inode, Bytes: info.Bytes, Modified: info.Modified.UTC(), Changed: info.Changed.UTC(),
	}, info, err
}

// same compares two identities; times that come out of a file have another form.
func (i identity) same(o identity) bool {
	return i.UID == o.UID && i.Inode == o.Inode && i.Bytes == o.Bytes && i.Modified.Equal(o.Modified) && i.Changed.Equal(o.Changed)
}

// readWork returns how far the copy in a folder is. None, and one that makes no sense, is fault.NotFound.
func readWork(root *file.Root, dir string) (work, error) {
	data, err := root.ReadFile(dir+"/"+workName, maxWork)
	if err != nil {
		return work{}, err
	}
	return parseWork(data)
}

func parseWork(data []byte) (work, error) {
	var w work
	if err := json.Unmarshal(data, &w); err != nil || w.Offset < 0 || w.Offset > w.Source.Bytes || w.Done < 0 || w.Done > w.Offset {
		return work{}, fault.New(fault.NotFound, "it says nothing of how far the copy is")
	}
	return w, nil
}

func (w work) write(ctx context.Context, root *file.Root, dir string) error {
	data, err := encode(w)
	if err != nil {
		return err
	}
	return root.WriteFile(ctx, dir+"/"+workName, data, fileMode)
}

// goOn finishes the copy that an earlier call has begun in the folder; false where there is none that is still of
// the source as it is.
func (b *images) goOn(ctx context.Context, root *file.Root, c duplicate, source *os.File, m *meta, thick bool) (bool, error) {
	w, err := readWork(root, c.dir)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Precondition) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if w.Origin {
		origin, err := root.Open(c.dir + "/" + originName)
		if foreign(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer origin.Close() //nolint:errcheck // it is only read
		source = origin
	}
	is, _, err := identify(source, c.source.UID)
	if err != nil || !w.Source.same(is) || w.Origin != (w.Origin && thick) {
		return false, err
	}
	image, err := root.OpenWrite(c.dir + "/" + imageName)
	if foreign(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer image.Close() //nolint:errcheck // synced as it is written
	m.stamp(w.TakenAt)
	return true, b.transfer(ctx, root, transfer{c: c, source: source, image: image, work: w, m: m})
}

// copyBytes begins a copy byte by byte, of a source that nobody writes to.
func (b *images) copyBytes(ctx context.Context, root *file.Root, c duplicate, source *os.File, m *meta, thick bool) error {
	origin := source.Name() == root.Path()+"/"+c.dir+"/"+originName
	if !origin {
		if err := b.unwritten(root, c, source); err != nil {
			return err
		}
	}
	is, info, err := identify(source, c.source.UID)
	if err != nil {
		return err
	}
	w := work{Source: is, Origin: origin, TakenAt: *m.TakenAt}
	if origin {
		w.Family = c.source.family()
	}
	image, err := root.Create(ctx, c.dir+"/"+imageName, fileMode)
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // synced as it is written
	if thick {
		err = takeSpace(ctx, root, image, m.Bytes)
	} else {
		err = room(root, info.Allocated)
	}
	if err != nil {
		return err
	}
	if err := file.Truncate(ctx, image, m.Bytes); err != nil {
		return err
	}
	if err := w.write(ctx, root, c.dir); err != nil {
		return err
	}
	return b.transfer(ctx, root, transfer{c: c, source: source, image: image, work: w, m: m})
}

// unwritten refuses a volume that somebody may write to while it is copied. Nobody writes to a snapshot.
func (b *images) unwritten(root *file.Root, c duplicate, source *os.File) error {
	if c.source.Snapshot {
		return nil
	}
	used, err := file.Written(source)
	if err != nil || !used {
		return err
	}
	fs, err := root.Filesystem()
	if err != nil {
		return err
	}
	return fault.New(fault.Precondition, "volume %s is in use, and the file system of %s (%s) can't share blocks between files, so it can be copied only "+
		"while nobody uses it: unpublish it everywhere and try again; an xfs with reflink=1 and btrfs copy volumes that are in use",
		c.source.ID, root.Path(), fs.Type)
}

// transfer is a copy byte by byte that is under way.
type transfer struct {
	c             duplicate
	source, image *os.File
	work          work
	m             *meta
}

// transfer copies the data that is left, piece by piece, each durable before the file beside it says so.
func (b *images) transfer(ctx context.Context, root *file.Root, t transfer) error {
	_, info, err := identify(t.source, "")
	if err != nil {
		return err
	}
	total := info.Allocated
	done := t.work.Done
	tell := func(bytes int64) {
		done += bytes
		t.c.progress(min(done, total), total)
	}
	tell(0)
	for t.work.Offset < info.Bytes {
		end, err := t.piece(ctx, root, total-done, tell)
		if err != nil {
			return err
		}
		file.Forget(t.source, t.work.Offset, end)
		file.Forget(t.image, t.work.Offset, end)
		t.work.Offset, t.work.Done = end, min(done, end)
		if err := t.unchanged(); err != nil {
			return err
		}
		if err := t.work.write(ctx, root, t.c.dir); err != nil {
			return err
		}
	}
	if !t.work.Origin {
		if err := b.unwritten(root, t.c, t.source); err != nil {
			return err
		}
	}
	if err := b.finish(ctx, root, t.c, t.m); err != nil {
		return err
	}
	t.c.progress(total, total)
	return nil
}

// piece copies up to syncedAtOnce bytes of data from the work's offset on, makes them durable and returns where
// it came to.
func (t transfer) piece(ctx context.Context, root *file.Root, left int64, tell func(int64)) (int64, error) {
	// Others write too: what is left must still find its space, or theirs would run out with it.
	image, err := file.StatFile(t.image)
	if err != nil {
		return 0, err
	}
	if image.Allocated < t.m.Bytes { // not a thick one, whose space is taken
		if err := room(root, min(left, syncedAtOnce)); err != nil {
			return 0, err
		}
	}
	at := t.work.Offset
	for copied := int64(0); copied < syncedAtOnce; {
		start, end, err := file.NextData(t.source, at)
		if err != nil {
			return 0, err
		}
		if start == end {
			at = end
			break
		}
		end = min(end, start+syncedAtOnce-copied)
		if err := file.CopyRange(ctx, t.image, t.source, start, end, tell); err != nil {
			return 0, err
		}
		at, copied = end, copied+end-start
	}
	return at, file.Sync(t.image)
}

// unchanged makes sure that the source is still what it was when the copy began.
func (t transfer) unchanged() error {
	is, _, err := identify(t.source, t.work.Source.UID)
	if err == nil && !is.same(t.work.Source) {
		err = fault.New(fault.Precondition, "%s was changed while it was copied; unpublish the volume everywhere and try again", t.source.Name())
	}
	return err
}
