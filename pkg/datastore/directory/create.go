package directory

import (
	"context"
	"errors"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Create makes the volume in tmp/ and renames it into its place when all of it is durable.
func (p *pool) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	if from != nil {
		made, err := p.duplicate(ctx, v, *from, progress)
		return made, p.about(err, "create", v)
	}
	made, err := p.create(ctx, v)
	return made, p.about(err, "create", v)
}

func (p *pool) create(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	if err := p.checkNew(v); err != nil {
		return datastore.Made{}, err
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Made{}, err
	}
	defer root.Close()
	made, err := remembered(root, v)
	if !fault.Is(err, fault.NotFound) {
		return made, err
	}
	if err := ensureLayout(ctx, root); err != nil {
		return datastore.Made{}, err
	}
	name := passingName(v)
	defer p.begin(name)()
	m, err := p.make(ctx, root, v, tmpDir+"/"+name)
	if err == nil {
		err = root.Rename(ctx, tmpDir+"/"+name, folder(v))
	}
	if err != nil {
		// The caller's context may be what ended it; what was taken is given back all the same.
		return datastore.Made{}, errors.Join(disturbed(err), p.scrap(context.WithoutCancel(ctx), root, tmpDir+"/"+name))
	}
	return m.made(folder(v)), nil
}

// Find reads the volume's mark, and makes its name durable: a Create that died behind its rename had not. What a
// snapshot of a volume would promise is what the volume takes now.
func (p *pool) Find(_ context.Context, v datastore.Volume) (datastore.Made, error) {
	made, err := p.recall(v)
	return made, p.about(err, "find", v)
}

func (p *pool) recall(v datastore.Volume) (datastore.Made, error) {
	if err := p.check(v); err != nil {
		return datastore.Made{}, err
	}
	root, err := p.enter()
	if err != nil {
		return datastore.Made{}, err
	}
	defer root.Close()
	b, dir, m, err := p.marked(root, v)
	if err != nil {
		return datastore.Made{}, err
	}
	made := m.made(dir)
	if !v.Snapshot {
		if err := counted(root, m); err != nil {
			return datastore.Made{}, err
		}
		// What is gone takes nothing, and is for List to tell.
		if made.Promised, err = b.allocated(root, dir, m); err != nil && !foreign(err) {
			return datastore.Made{}, err
		}
	}
	return made, root.Sync(path.Dir(dir))
}

// remembered is what the mark of a volume says that is there.
func remembered(root *file.Root, v datastore.Volume) (datastore.Made, error) {
	m, err := find(root, v)
	if err != nil {
		return datastore.Made{}, err
	}
	return m.made(folder(v)), root.Sync(path.Dir(folder(v)))
}

// disturbed is the error of somebody else's hand in tmp/ or volumes/: that a file came or went there says
// nothing of the volume.
func disturbed(err error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Exists) {
		return fault.As(fault.Unavailable, err)
	}
	return err
}

// checkNew refuses what can't be made.
func (p *pool) checkNew(v datastore.Volume) error {
	if err := p.check(v); err != nil {
		return err
	}
	for _, lack := range p.capabilities.Missing(v) {
		return fault.New(fault.Invalid, "%s", lack)
	}
	fsType := ""
	if v.Filesystem != nil {
		fsType = v.Filesystem.Type
	}
	least := minBytes(fsType)
	if v.Format == v1alpha1.FormatSubdirectory {
		least = granularity // a directory needs none
	}
	if v.Bytes < least {
		return fault.New(fault.Invalid, "%d bytes are too few for it, the least is %d", v.Bytes, least)
	}
	return nil
}

// begin keeps Reclaim off a name in tmp/ until the function that it returns is called.
func (p *pool) begin(name string) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making[name] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.making, name)
	}
}

// make makes a volume in dir, all of it durable. What an earlier try left there is removed first.
func (p *pool) make(ctx context.Context, root *file.Root, v datastore.Volume, dir string) (meta, error) {
	b, err := p.body(v.Format)
	if err != nil {
		return meta{}, err
	}
	if err := b.fits(root, v); err != nil {
		return meta{}, err
	}
	if err := p.scrap(ctx, root, dir); err != nil {
		return meta{}, err
	}
	if err := root.Mkdir(ctx, dir, dirMode); err != nil {
		return meta{}, err
	}
	m := metaOf(v, roundUp(v.Bytes))
	settle, err := b.make(ctx, root, dir, v, &m)
	if err != nil {
		return meta{}, err
	}
	// The mark goes first: its sync takes the bytes' with it where the journal is one.
	if err := newMark(ctx, root, dir, m); err != nil {
		return meta{}, errors.Join(err, settle())
	}
	var rest errgroup.Group // together they wait for one flush of the disk
	rest.Go(settle)
	rest.Go(func() error { return root.Sync(dir) })
	return m, rest.Wait()
}

// room refuses what doesn't fit before it is tried: an allocation that fails in the end takes all that is
// left meanwhile, and thin volumes would find no space.
func room(root *file.Root, bytes int64) error {
	fs, err := root.Filesystem()
	if err != nil || bytes <= free(fs) {
		return err
	}
	if err := root.SyncFilesystem(); err != nil { // what was removed may not be free yet
		return err
	}
	if fs, err = root.Filesystem(); err != nil {
		return err
	}
	if free := free(fs); bytes > free {
		return fault.New(fault.Exhausted, "%s are needed, %s are free on the file system", humanBytes(bytes), humanBytes(free))
	}
	return nil
}

// free is what root can still write: ext4 keeps a share for it that other users can't have.
func free(fs file.Filesystem) int64 {
	if fs.Type == "ext4" {
		return fs.Free
	}
	return fs.Available
}
