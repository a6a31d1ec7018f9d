package directory

import (
	"context"
	"path"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// pool is a directory that was opened as a datastore's. It holds no descriptor.
type pool struct {
	datastore    string
	path         string
	marker       marker
	tools        datastore.Tools
	capabilities datastore.Capabilities
	bodies       map[v1alpha1.VolumeFormat]body

	index index
	usage usage

	// reclaiming holds the call of Reclaim that runs.
	reclaiming chan struct{}
	// orders lets one at a time change what stands in the folders of volumes about their wipe.
	orders sync.Mutex

	mu      sync.Mutex
	making  map[string]bool // names in tmp/ that a call of Create works on
	unwiped unwiped
	// defaultWipe is the datastore's for volumes that say nothing.
	defaultWipe v1alpha1.WipePolicy
}

var _ datastore.Pool = (*pool)(nil)

// UUID is the one that the marker bears.
func (p *pool) UUID() string { return p.marker.Pool }

// Update takes up what an administrator changed of a datastore that keeps its place.
func (p *pool) Update(d *v1alpha1.Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defaultWipe = d.Spec.Volumes.Wipe
}

// enter opens the directory and makes sure that it is still the pool. Whatever is wrong with it is
// fault.Unavailable. The caller closes it.
func (p *pool) enter() (*file.Root, error) {
	root, err := file.OpenRoot(p.path)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err)
	}
	m, err := readMarker(root)
	switch {
	case fault.Is(err, fault.NotFound):
		err = notMounted(p.path, p.marker.Pool)
	case err == nil && !m.samePool(p.marker):
		err = fault.New(fault.Unavailable, "directory %s holds pool %s of datastore %q, cluster %q and machine %s, which is not the one that was opened "+
			"(pool %s); is another disk mounted there? Nothing was changed", p.path, m.Pool, m.Datastore, m.Cluster, m.Machine, p.marker.Pool)
	}
	if err != nil {
		root.Close()
		return nil, fault.As(fault.Unavailable, err)
	}
	return root, nil
}

// about names the operation and the volume in an error.
func (p *pool) about(err error, op string, v datastore.Volume) error {
	return fault.Wrap(err, op, kindOf(v)+" "+shorten(v.ID)+" on datastore "+p.datastore)
}

func kindOf(v datastore.Volume) string {
	if v.Snapshot {
		return "snapshot"
	}
	return "volume"
}

// ensureLayout makes the pool's folders where they are missing.
func ensureLayout(ctx context.Context, root *file.Root) error {
	for _, dir := range []string{tmpDir, trashDir, volumesDir, snapshotsDir} {
		if err := ensureDir(ctx, root, dir); err != nil {
			return err
		}
	}
	return nil
}

// ensureDir makes a folder where it is missing, durably. Anything else in its place is fault.Precondition.
func ensureDir(ctx context.Context, root *file.Root, name string) error {
	info, err := root.Stat(name)
	if fault.Is(err, fault.NotFound) {
		if err := root.Mkdir(ctx, name, dirMode); err != nil {
			return err
		}
		return root.Sync(path.Dir(name))
	}
	if err == nil && !info.Mode.IsDir() {
		err = fault.New(fault.Precondition, "%s/%s is in the way: it is no directory (%s); move it away", root.Path(), name, info.Mode.Type())
	}
	return err
}
