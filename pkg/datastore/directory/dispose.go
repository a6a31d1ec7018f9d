package directory

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// The labels of a volume that name the claim it was made for.
const (
	claimLabel     = "datastore-csi.io/pvc-name"
	namespaceLabel = "datastore-csi.io/pvc-namespace"
)

// dispose does with a volume that nobody uses what was asked for. What was done already is done.
func (p *pool) dispose(ctx context.Context, root *file.Root, v datastore.Volume, m meta, d datastore.Disposal) error {
	dir := folder(v)
	switch d.Policy {
	case v1alpha1.RetainData:
		if m.Retained != nil {
			return root.Sync(dir) // a call that died behind its rename had not synced it
		}
		m.Retained = p.now()
		return writeMark(ctx, root, dir, m)
	case v1alpha1.ArchiveData:
		return p.archive(ctx, root, dir, m)
	}
	if err := p.demand(ctx, root, dir, d.Wipe); err != nil {
		return err
	}
	if err := ensureDir(ctx, root, trashDir); err != nil {
		return err
	}
	return p.discard(ctx, root, dir, trashDir+"/"+passingName(v))
}

// checkDisposal refuses what can't be held, before anything is done.
func (p *pool) checkDisposal(root *file.Root, b body, d datastore.Disposal) error {
	switch d.Policy {
	case v1alpha1.RetainData, v1alpha1.ArchiveData:
		return nil
	case "", v1alpha1.DeleteData:
		return fault.As(fault.Precondition, b.mayWipe(root, d.Wipe))
	}
	return fault.New(fault.Invalid, "policy %q is not known to this version", shorten(string(d.Policy)))
}

func (p *pool) now() *time.Time {
	now := p.tools.Now().UTC()
	return &now
}

// mostNames bounds how many archived volumes may have one name.
const mostNames = 10000

// archive renames a volume into archived/, under a name that people can read.
func (p *pool) archive(ctx context.Context, root *file.Root, dir string, m meta) error {
	if m.Archived == nil { // before the rename: what lies in archived/ says since when
		m.Archived = p.now()
		if err := writeMark(ctx, root, dir, m); err != nil {
			return err
		}
	}
	if err := ensureDir(ctx, root, archivedDir); err != nil {
		return err
	}
	name := archiveName(m)
	for n := 1; n <= mostNames; n++ {
		to := archivedDir + "/" + name
		if n > 1 {
			to += fmt.Sprintf("-%d", n)
		}
		if err := root.Rename(ctx, dir, to); !fault.Is(err, fault.Exists) {
			return err
		}
	}
	return fault.New(fault.Exhausted, "%s/%s holds %d volumes of the name %s; move some away", root.Path(), archivedDir, mostNames, name)
}

// archiveName is made of namespace, claim and day, or of the volume's CSI name and the day.
func archiveName(m meta) string {
	var parts []string
	for _, part := range []string{m.Labels[namespaceLabel], m.Labels[claimLabel]} {
		if part = readable(part); part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, cmp.Or(readable(m.Name), m.ID))
	}
	if m.Snapshot {
		parts = append(parts, "snapshot")
	}
	return strings.Join(append(parts, m.Archived.UTC().Format(time.DateOnly)), "_")
}

// mostReadable bounds a part of a readable name in bytes: three of them fit into a file's name.
const mostReadable = 63

// readable makes of a stranger's text what may stand in a file's name and in a shell.
func readable(s string) string {
	s = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-.", r) {
			return r
		}
		return '-'
	}, s[:min(len(s), mostReadable)])
	return strings.Trim(s, "-.")
}
