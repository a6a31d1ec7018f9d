package directory

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Status asks statfs(2), and adds up what the volumes take: see images.own and trees.own for how exactly. Own is never
// more than is in use.
func (p *pool) Status(ctx context.Context) (datastore.Status, error) {
	status, err := p.status(ctx)
	return status, fault.Wrap(err, "measure datastore", p.datastore)
}

func (p *pool) status(ctx context.Context) (datastore.Status, error) {
	root, err := p.enter()
	if err != nil {
		return datastore.Status{}, err
	}
	defer root.Close()
	own, fs, err := p.measure(ctx, root)
	if err != nil {
		return datastore.Status{}, err
	}
	features, findings := p.features(ctx, root, fs)
	// What statfs calls free on btrfs counts space that only metadata can have: the total is what is used
	// and what can still be, as df(1) counts its share in use.
	used := fs.Total - fs.Free
	return datastore.Status{
		UUID: p.marker.Pool, Host: p.marker.Host, Total: used + free(fs), Used: used, Free: free(fs), Own: own,
		Degraded: fs.ReadOnly, Features: features, Findings: findings,
	}, nil
}

// features are what the formats can do here. What can't be found out now isn't promised.
func (p *pool) features(ctx context.Context, root *file.Root, fs file.Filesystem) ([]v1alpha1.Feature, []v1alpha1.Finding) {
	out := append(findings(p.path, fs), p.wipeFindings(fs)...)
	if fs.ReadOnly {
		return nil, out
	}
	var features []v1alpha1.Feature
	for _, format := range slices.Sorted(maps.Keys(p.bodies)) {
		more, err := p.bodies[format].features(ctx, root)
		if err != nil {
			out = append(out, v1alpha1.Finding{
				Reason: "FeaturesUnknown", Message: fmt.Sprintf("%s: what it can do for volumes of format %s can't be found out now: %v", p.path, format, err),
			})
		}
		features = append(features, more...)
	}
	more, err := limitFindings(root, fs)
	if err != nil {
		more = []v1alpha1.Finding{{Reason: "LimitsUnknown", Message: fmt.Sprintf("%s: whether limits hold can't be found out now: %v", p.path, err)}}
	}
	slices.Sort(features)
	return features, append(out, more...)
}

// fewInodes is when a file system is short of files: under one percent, or this many.
const fewInodes = 1000

func findings(path string, fs file.Filesystem) []v1alpha1.Finding {
	var out []v1alpha1.Finding
	add := func(reason, message string, args ...any) {
		out = append(out, v1alpha1.Finding{Reason: reason, Message: fmt.Sprintf(message, args...)})
	}
	if fs.ReadOnly {
		add("ReadOnly", "the file system of %s is mounted read-only: nothing can be made, grown or removed; look at the kernel's log, then remount it writable", path)
	}
	if fs.Inodes > 0 && (fs.FreeInodes < fs.Inodes/100 || fs.FreeInodes < fewInodes) {
		add("InodesLow", "the file system of %s has room for %d of %d files, a volume takes three; remove files, or use a file system with more", path, fs.FreeInodes, fs.Inodes)
	}
	if fs.Type == volatile {
		add("Volatile", "%s lies in memory (tmpfs): its volumes are gone with the next boot; use a directory on a disk", path)
	}
	return out
}

// humanBytes writes bytes exactly, in the largest unit that divides them.
func humanBytes(n int64) string { return resource.NewQuantity(max(0, n), resource.BinarySI).String() }
