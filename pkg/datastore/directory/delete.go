package directory

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Delete renames the volume into trash/ or archived/, or says in its mark that it is retained. One that the kernel
// says is in use, and a wipe that can't be held here, are fault.Precondition, and nothing is done.
func (p *pool) Delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	return p.about(p.delete(ctx, v, d), "delete", v)
}

func (p *pool) delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	if err := p.check(v); err != nil {
		return err
	}
	root, err := p.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	b, dir, m, err := p.marked(root, v)
	if fault.Is(err, fault.NotFound) {
		// A call that died behind its rename had not synced it.
		return errors.Join(p.dropUnfinished(ctx, root, v), syncParent(root, v))
	}
	if err != nil {
		return err
	}
	if err := p.checkDisposal(root, b, d); err != nil {
		return err
	}
	if err := b.release(ctx, root, dir); err != nil {
		return err
	}
	// Told first: once it is out of its place, nobody may look.
	if bytes, err := b.allocated(root, dir, m); err == nil {
		p.usage.leave(bytes)
	}
	return p.dispose(ctx, root, v, m, d)
}

// dropUnfinished takes out of use what a call of Create has begun and nobody will finish.
func (p *pool) dropUnfinished(ctx context.Context, root *file.Root, v datastore.Volume) error {
	name := passingName(v)
	_, err := root.Stat(tmpDir + "/" + name)
	if err == nil {
		err = ensureDir(ctx, root, trashDir)
	}
	if err == nil {
		err = p.discard(ctx, root, tmpDir+"/"+name, trashDir+"/"+name+unfinished)
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// syncParent makes durable what is in volumes/ or snapshots/, and what is not any more.
func syncParent(root *file.Root, v datastore.Volume) error {
	err := root.Sync(path.Dir(folder(v)))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// discard renames something into trash/, under another name where an earlier removal left that one there.
func (p *pool) discard(ctx context.Context, root *file.Root, from, to string) error {
	err := root.Rename(ctx, from, to)
	for n := 2; fault.Is(err, fault.Exists) && n <= mostNames; n++ {
		err = root.Rename(ctx, from, fmt.Sprintf("%s.%d", to, n))
	}
	return err
}

// Reclaim wipes, where that was ordered, and removes what lies in trash/, and in tmp/ unless it is being made or can
// be gone on with. What can't be removed (a mount point in it, say) is in the error and keeps nothing else.
func (p *pool) Reclaim(ctx context.Context) error {
	return fault.Wrap(p.reclaim(ctx), "reclaim space of datastore", p.datastore)
}

func (p *pool) reclaim(ctx context.Context) error {
	// One at a time: what one finds shared, and leaves to the other holder, no other may free meanwhile.
	select {
	case p.reclaiming <- struct{}{}:
		defer func() { <-p.reclaiming }()
	case <-ctx.Done():
		return ctx.Err()
	}
	root, err := p.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	errs := []error{p.sweepTmp(ctx, root)}
	names, err := list(root, trashDir)
	errs = append(errs, err)
	// Half copies first: they say nothing of whose blocks they share.
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	for _, name := range names {
		if err := file.CheckName(name); err != nil { // no name of ours
			errs = append(errs, err)
			continue
		}
		errs = append(errs, p.scrap(ctx, root, trashDir+"/"+name))
	}
	return errors.Join(errs...)
}

func rank(name string) int {
	if strings.Contains(name, unfinished) {
		return 0
	}
	return 1
}

// unfinished is behind the names in trash/ of what came from tmp/.
const unfinished = ".unfinished"

// sweepTmp moves what broken calls left in tmp/ to trash/. It removes nothing in tmp/ itself: a rename
// happens before or after that of Create, but a removal that has begun would go on in the directory
// that Create has just put into its place.
func (p *pool) sweepTmp(ctx context.Context, root *file.Root) error {
	names, err := list(root, tmpDir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := ensureDir(ctx, root, trashDir); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range names {
		if p.resumable(root, tmpDir+"/"+name) {
			continue
		}
		err := p.unlessMaking(name, func() error {
			return p.discard(ctx, root, tmpDir+"/"+name, trashDir+"/"+name+unfinished)
		})
		if !fault.Is(err, fault.NotFound) { // Create has made it, or removed it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kept is how long a copy that was interrupted is kept, so that it can go on: an agent that is started again does so
// at once, and one whose volume is deleted has it removed.
const kept = 24 * time.Hour

// resumable tells whether something in tmp/ is a copy that may go on.
func (p *pool) resumable(root *file.Root, dir string) bool {
	info, err := root.Stat(dir + "/" + workName)
	return err == nil && p.tools.Now().Sub(info.Modified) < kept
}

// unlessMaking does something to a name in tmp/ while no call of Create can take it up.
func (p *pool) unlessMaking(name string, do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.making[name] {
		return nil
	}
	return do()
}

// list returns the names in a folder; none where it is missing.
func list(root *file.Root, dir string) ([]string, error) {
	names, err := root.ReadDir(dir, 0)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return names, err
}
