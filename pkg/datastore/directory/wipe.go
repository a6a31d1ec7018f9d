package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// orderName is the file in a volume's folder that says what must be done to its bytes before they are given
	// back. It goes into the trash with them, so that no crash forgets it.
	orderName = "wipe.json"
	maxOrder  = 64 << 10
)

// order is what must be done to bytes before they are given back.
type order struct {
	Wipe v1alpha1.WipePolicy `json:"wipe"`
	// Offset before which it is done, in bytes.
	Offset int64 `json:"offset,omitempty"`
	// Passed tells that blocks before Offset were left to another one that has them too. It may be gone by now.
	Passed bool `json:"passed,omitempty"`
}

// strength ranks wipes: what was once ordered is never taken back.
func strength(w v1alpha1.WipePolicy) int {
	switch w {
	case v1alpha1.WipeZero:
		return 2
	case v1alpha1.WipeDiscard:
		return 1
	}
	return 0
}

func strongest(wipes ...v1alpha1.WipePolicy) v1alpha1.WipePolicy {
	return slices.MaxFunc(wipes, func(a, b v1alpha1.WipePolicy) int { return strength(a) - strength(b) })
}

// readOrder returns the order in a folder; one of no wipe where there is none. One that can't be understood is
// fault.Precondition: nobody may guess that there was nothing to wipe.
func readOrder(root *file.Root, dir string) (order, error) {
	data, err := root.ReadFile(dir+"/"+orderName, maxOrder)
	if fault.Is(err, fault.NotFound) {
		return order{Wipe: v1alpha1.WipeNone}, nil
	}
	if err != nil {
		return order{}, err
	}
	return parseOrder(data, path.Join(root.Path(), dir, orderName))
}

func parseOrder(data []byte, path string) (order, error) {
	var o order
	err := json.Unmarshal(data, &o)
	if err == nil && (strength(o.Wipe) == 0 || o.Offset < 0) {
		err = fault.New(fault.Precondition, "it orders %q from byte %d on", shorten(string(o.Wipe)), o.Offset)
	}
	if err != nil {
		return order{}, fault.New(fault.Precondition, "%s can't be understood: %w; write {\"wipe\": \"Zero\"} into it to have the bytes beside it wiped", path, err)
	}
	return o, nil
}

// demand sees to it that at least that is done to the bytes in a folder before they are given back.
func (p *pool) demand(ctx context.Context, root *file.Root, dir string, w v1alpha1.WipePolicy) error {
	if strength(w) == 0 {
		return nil
	}
	p.orders.Lock()
	defer p.orders.Unlock()
	o, err := readOrder(root, dir)
	if err != nil || strength(o.Wipe) >= strength(w) {
		return err
	}
	return writeOrder(ctx, root, dir, order{Wipe: w})
}

func writeOrder(ctx context.Context, root *file.Root, dir string, o order) error {
	data, err := encode(o)
	if err != nil {
		return err
	}
	return root.WriteFile(ctx, dir+"/"+orderName, data, fileMode)
}

// inherit hands a source's order to what shares its blocks.
func (p *pool) inherit(ctx context.Context, root *file.Root, from, to string) error {
	o, err := readOrder(root, from)
	if err != nil {
		return err
	}
	return p.demand(ctx, root, to, o.Wipe)
}

// handOver makes all that may share blocks with a volume that is wiped wipe them in their turn: a block that another
// one holds is its data still, and who lets go last wipes it. It looks again until it finds no more, since
// copies are made meanwhile; they take over the orders of their sources.
func (p *pool) handOver(ctx context.Context, root *file.Root, of meta, w v1alpha1.WipePolicy) error {
	told := map[string]bool{}
	for again := true; again; {
		again = false
		dirs, err := p.family(ctx, root, of)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if told[dir] {
				continue
			}
			if err := p.demand(ctx, root, dir, w); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			told[dir], again = true, true
		}
	}
	return nil
}

// family are the folders of those that may share blocks with a volume, itself among them.
func (p *pool) family(ctx context.Context, root *file.Root, of meta) ([]string, error) {
	var dirs []string
	for _, parent := range []string{volumesDir, snapshotsDir, tmpDir, trashDir} {
		names, err := list(root, parent)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			dir := parent + "/" + name
			m, err := readMark(root, dir)
			if err == nil && m.family() == of.family() {
				dirs = append(dirs, dir)
				continue
			}
			if w, err := readWork(root, dir); err == nil && w.Family == of.family() {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, nil
}

// wipeOf is what is to be done to a volume's bytes at its end, as far as is known before.
func (p *pool) wipeOf(v datastore.Volume) v1alpha1.WipePolicy {
	if v.Wipe != v1alpha1.WipeDefault {
		return v.Wipe
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.defaultWipe
}

// scrap removes what is out of use, wiped as was ordered. It goes on where it was interrupted.
func (p *pool) scrap(ctx context.Context, root *file.Root, dir string) error {
	o, err := readOrder(root, dir)
	if foreign(err) && !p.isFolder(root, dir) {
		o, err = order{}, nil // no folder of ours: RemoveAll says what it is, or removes it
	}
	if err != nil {
		return err
	}
	for _, b := range p.bodies {
		if strength(o.Wipe) > 0 {
			if err := b.wipe(ctx, root, dir, o); err != nil {
				return err
			}
		}
		if err := b.empty(ctx, root, dir); err != nil {
			return err
		}
	}
	return root.RemoveAll(ctx, dir)
}

func (p *pool) isFolder(root *file.Root, dir string) bool {
	info, err := root.Stat(dir)
	return err == nil && info.Mode.IsDir()
}

// drop gives up what is in tmp/: at once, or by Reclaim where it must be wiped before.
func (p *pool) drop(ctx context.Context, root *file.Root, dir string) error {
	o, err := readOrder(root, dir)
	if err == nil && strength(o.Wipe) == 0 || foreign(err) {
		return p.scrap(ctx, root, dir)
	}
	if err != nil {
		return err
	}
	return p.discard(ctx, root, dir, trashDir+"/"+path.Base(dir)+unfinished)
}

// unwiped is what could not be overwritten where it lay, since the pool was opened.
type unwiped struct {
	bytes int64
	last  string
}

func (p *pool) noteUnwiped(name string, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unwiped.bytes += bytes
	p.unwiped.last = name
}

// wipeFindings say what of the wipes that were ordered isn't so.
func (p *pool) wipeFindings(fs file.Filesystem) []v1alpha1.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []v1alpha1.Finding
	if p.unwiped.bytes > 0 {
		out = append(out, v1alpha1.Finding{Reason: "WipeIncomplete", Message: fmt.Sprintf("%s: the file system wrote the zeroes for %s of deleted volumes "+
			"elsewhere than over their bytes, the last of them %s; their old bytes are in free space now, until something else is written there",
			p.path, humanBytes(p.unwiped.bytes), p.unwiped.last)})
	}
	if p.defaultWipe == v1alpha1.WipeZero && !overwrites(fs) {
		out = append(out, v1alpha1.Finding{Reason: "WipeImpossible", Message: fmt.Sprintf("%s: spec.volumes.wipe is Zero, which can't be held on %s: "+
			"no volume is made and none deleted; set it to None or Discard, or use a directory on ext4 or xfs", p.path, fs.Type)})
	}
	return out
}
