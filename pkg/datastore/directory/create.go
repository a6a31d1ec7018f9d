package directory

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// Create makes the volume in tmp/ and renames it into its place when all of it is durable.
func (p *pool) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	if from != nil {
		return datastore.Made{}, p.about(noCopies(), "create", v)
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
	name := v.BackendName()
	made, err := remembered(root, v)
	if !fault.Is(err, fault.NotFound) {
		return made, err
	}
	if err := ensureLayout(ctx, root); err != nil {
		return datastore.Made{}, err
	}
	defer p.begin(name)()
	m, err := p.make(ctx, root, v, tmpDir+"/"+name)
	if err == nil {
		err = root.Rename(ctx, tmpDir+"/"+name, volumesDir+"/"+name)
	}
	if err != nil {
		// The caller's context may be what ended it; what was taken is given back all the same.
		return datastore.Made{}, errors.Join(disturbed(err), p.scrap(context.WithoutCancel(ctx), root, tmpDir+"/"+name))
	}
	return m.made(name), nil
}

// Find reads the volume's mark, and makes its name durable: a Create that died behind its rename had not.
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
	return remembered(root, v)
}

// remembered is what the mark of a volume says that is there.
func remembered(root *file.Root, v datastore.Volume) (datastore.Made, error) {
	m, err := find(root, v)
	if err != nil {
		return datastore.Made{}, err
	}
	return m.made(v.BackendName()), root.Sync(volumesDir)
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
	if least := minBytes(fsType); v.Bytes < least {
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
	if err := p.scrap(ctx, root, dir); err != nil {
		return meta{}, err
	}
	if err := root.Mkdir(ctx, dir, dirMode); err != nil {
		return meta{}, err
	}
	image, err := root.Create(ctx, dir+"/"+imageName, fileMode)
	if err != nil {
		return meta{}, err
	}
	defer image.Close() //nolint:errcheck // synced below
	m, err := p.carve(ctx, root, v, image)
	if err != nil {
		return meta{}, err
	}
	// The mark goes first: its sync takes the image's with it where the journal is one.
	data, err := encode(m)
	if err != nil {
		return meta{}, err
	}
	if err := root.WriteNew(ctx, dir+"/"+metaName, data, fileMode); err != nil {
		return meta{}, err
	}
	var rest errgroup.Group // together they wait for one flush of the disk
	rest.Go(func() error { return file.Sync(image) })
	rest.Go(func() error { return root.Sync(dir) })
	return m, rest.Wait()
}

// carve gives the image its size, its space and its file system.
func (p *pool) carve(ctx context.Context, root *file.Root, v datastore.Volume, image *os.File) (meta, error) {
	bytes := roundUp(v.Bytes)
	if v.Provisioning == v1alpha1.Thick {
		if err := takeSpace(ctx, root, image, bytes); err != nil {
			return meta{}, err
		}
	}
	if err := file.Truncate(ctx, image, bytes); err != nil {
		return meta{}, err
	}
	sector, err := sectorSize(image)
	if err != nil {
		return meta{}, err
	}
	if v.Filesystem != nil {
		if err := p.format(ctx, image, v, sector); err != nil {
			return meta{}, err
		}
	}
	return metaOf(v, bytes, sector), nil
}

// takeSpace allocates a new thick image as a whole. On btrfs it is overwritten in place as well: copying on
// write, each write would need new space before the old is given back, whatever is allocated.
func takeSpace(ctx context.Context, root *file.Root, image *os.File, bytes int64) error {
	fs, err := root.Filesystem()
	if err != nil {
		return err
	}
	if err := room(root, bytes); err != nil {
		return err
	}
	if fs.Type == "btrfs" {
		if err := file.SetNoCow(ctx, image); err != nil {
			return err
		}
	}
	return fault.Wrap(file.Allocate(ctx, image, bytes), "take", humanBytes(bytes))
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

const (
	sector512  = 512
	sector4096 = 4096
)

// sectorSize is that of the volume's device: 512 bytes, which all software knows, unless the storage below
// can't do direct I/O in units as small.
func sectorSize(image *os.File) (int, error) {
	align, err := file.DirectIOAlignment(image)
	if err != nil {
		return 0, err
	}
	if align > sector512 {
		return sector4096, nil
	}
	return sector512, nil
}

// format makes the file system with the UUID that the record names. A sparse and an allocated image both
// read as zeroes. Nothing is discarded: it would punch holes into what was allocated.
func (p *pool) format(ctx context.Context, image *os.File, v datastore.Volume, sector int) error {
	fsType, err := filesystem.ParseType(v.Filesystem.Type)
	if err != nil {
		return err
	}
	err = filesystem.Make(ctx, p.tools.Command, file.PathForTool(image), filesystem.Format{
		Type: fsType, UUID: v.Filesystem.UUID, SectorSize: sector, Zeroed: true, Options: v.Filesystem.MkfsOptions,
	})
	if err != nil {
		return fault.Wrap(err, "format", image.Name())
	}
	if v.Provisioning != v1alpha1.Thick {
		return nil
	}
	// A tool may write zeroes by punching holes.
	return file.Allocate(ctx, image, roundUp(v.Bytes))
}
