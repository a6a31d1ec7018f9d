package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// body is what the bytes of a volume are, by its format. All that is around them is common to the formats
// and not a body's matter: the folder, its name and place, the mark, the trash. dir is a volume's folder beneath
// root. No two calls for one folder run at the same time, but for allocated, problems, own and inUse.
type body interface {
	// fits refuses a new volume that this pool can't hold, before anything is made.
	fits(root *file.Root, v datastore.Volume) error

	// make makes the bytes of a new volume in an empty folder, at least m.Bytes of them, and puts into the
	// mark what is the format's own. settle makes all of it durable but the names in dir, and lets go; the
	// caller calls it once, when it has written the mark.
	make(ctx context.Context, root *file.Root, dir string, v datastore.Volume, m *meta) (settle func() error, err error)

	// copy makes a new volume or snapshot of the bytes of another, as make does, durably. It may go on with what
	// an earlier call left in the folder.
	copy(ctx context.Context, root *file.Root, c duplicate, m *meta) error

	// grow makes the volume at least that many bytes large. The mark is not written yet.
	grow(ctx context.Context, root *file.Root, dir string, m meta, bytes int64) (growth, error)

	// open makes the volume reachable. Bytes that are gone are fault.DataLoss.
	open(ctx context.Context, root *file.Root, dir string, m meta, readOnly bool) (datastore.Opened, error)

	// close undoes open. What isn't open, and what isn't there, is success.
	close(ctx context.Context, root *file.Root, dir string) error

	// release sees to it that nobody uses the volume; somebody who does is fault.Precondition. Bytes that aren't
	// there are success.
	release(ctx context.Context, root *file.Root, dir string) error

	// inUse tells whether anything on this host uses the volume. Bytes that aren't there are used by nobody.
	inUse(ctx context.Context, root *file.Root, dir string) (bool, error)

	// mayWipe refuses, as fault.Invalid, what can't be held on this pool: bytes that would stay.
	mayWipe(root *file.Root, w v1alpha1.WipePolicy) error

	// wipe does to the bytes of what is out of use for good what was ordered, from the order's offset on, and notes
	// in the folder how far it is. Bytes that aren't there are success.
	wipe(ctx context.Context, root *file.Root, dir string, o order) error

	// empty frees the bytes of what is out of use for good, so that the folder can be removed; it goes on where it
	// was interrupted. Bytes that aren't there are success.
	empty(ctx context.Context, root *file.Root, dir string) error

	// allocated is how many bytes the volume takes on the storage.
	allocated(root *file.Root, dir string, m meta) (int64, error)

	// problems are what is wrong with the bytes of a volume.
	problems(root *file.Root, dir string, m meta) ([]v1alpha1.Problem, error)

	// own is how many bytes these volumes, snapshots and remainders of the format take together. Bytes that
	// several share count once. It is never more than they take: the pool would promise what it doesn't have.
	own(ctx context.Context, root *file.Root, all []entry) (int64, error)

	// features are what holds for the format on this pool beyond what the type promises.
	features(ctx context.Context, root *file.Root) ([]v1alpha1.Feature, error)
}

// duplicate is the order to copy a volume.
type duplicate struct {
	// from is the source's folder, source its mark.
	from   string
	source meta
	// dir is the folder of the copy, which is there.
	dir string
	// volume or snapshot that is made.
	volume datastore.Volume
	// wipe is what must be done to the copy before its bytes are given back, its source's orders aside.
	wipe v1alpha1.WipePolicy
	// progress is never nil.
	progress datastore.Progress
}

// growth is a volume that is larger already, while its mark doesn't say so.
type growth struct {
	// bytes is its size now.
	bytes int64
	// undo takes it back: the mark can't be written, so nobody was told.
	undo func(context.Context) error
	// tell tells those who use the volume.
	tell func(context.Context) error
	// end lets go of it, and is called last.
	end func()
}

// body returns that of a format.
func (p *pool) body(format v1alpha1.VolumeFormat) (body, error) {
	if b, ok := p.bodies[format]; ok {
		return b, nil
	}
	return nil, fault.New(fault.Invalid, "format %q is not known to this version", shorten(string(format)))
}

// formats are the bodies of a pool's volumes.
func (p *pool) formats() map[v1alpha1.VolumeFormat]body {
	return map[v1alpha1.VolumeFormat]body{
		v1alpha1.FormatImage:        &images{pool: p},
		v1alpha1.FormatSubdirectory: &trees{pool: p, mounts: mount.New(mount.Config{})},
	}
}

// marked returns the body of a volume that is there and is the one asked for, with its folder and mark.
func (p *pool) marked(root *file.Root, v datastore.Volume) (body, string, meta, error) {
	m, err := find(root, v)
	if err != nil {
		return nil, "", meta{}, err
	}
	b, err := p.body(m.Format)
	return b, folder(v), m, err
}
