package directory

import (
	"context"
	"encoding/json"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// layout is the version of what this package keeps on the storage. It rises with every change
	// that an older version of this package must not meet.
	layout = 1

	// maxMarker bounds a marker in bytes. Ours take some hundred.
	maxMarker = 64 << 10
)

// marker says whose pool a directory is.
type marker struct {
	Layout    int    `json:"layout"`
	Pool      string `json:"pool"`
	Cluster   string `json:"cluster"`
	Machine   string `json:"machine"`
	Datastore string `json:"datastore"`
	// Host that the pool was made on, as its records name it.
	Host    string    `json:"host,omitempty"`
	Created time.Time `json:"created"`
}

// readMarker returns the directory's marker. None is fault.NotFound, one that can't be understood
// fault.Precondition.
func readMarker(root *file.Root) (marker, error) {
	data, err := root.ReadFile(markerName, maxMarker)
	if err != nil {
		return marker{}, err
	}
	return parseMarker(data, root.Path()+"/"+markerName)
}

func parseMarker(data []byte, path string) (marker, error) {
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return marker{}, fault.New(fault.Precondition, "the pool's marker %s can't be read: %w; restore it, nothing was changed", path, err)
	}
	if m.Layout != layout {
		return marker{}, fault.New(fault.Precondition,
			"the pool's marker %s has layout %d, this version knows %d; use the version that made it", path, m.Layout, layout)
	}
	if m.Pool == "" {
		return marker{}, fault.New(fault.Precondition, "the pool's marker %s names no pool; restore it, nothing was changed", path)
	}
	return m, nil
}

// samePool tells whether two markers, read at different times, are of one pool in the same hands.
func (m marker) samePool(o marker) bool {
	return m.Pool == o.Pool && m.Cluster == o.Cluster && m.Machine == o.Machine && m.Datastore == o.Datastore
}

// judge tells whether a marker that was found is that of the datastore's pool on this machine. The
// machine is left to the caller.
func (m marker) judge(c datastore.Config, path string) error {
	switch {
	case c.PoolUUID != "" && m.Pool != c.PoolUUID:
		return fault.New(fault.Unavailable,
			"directory %s holds pool %s, not pool %s of datastore %q; is another disk mounted there? Nothing was changed",
			path, m.Pool, c.PoolUUID, c.Datastore.Name)
	case m.Cluster != c.ClusterID:
		return another(fault.New(fault.Precondition,
			"directory %s is a pool of cluster %q, this is cluster %q; give each cluster a directory of its own",
			path, m.Cluster, c.ClusterID))
	case m.Datastore != c.Datastore.Name:
		return another(fault.New(fault.Precondition,
			"directory %s is the pool of datastore %q, not of %q; use that name or another directory",
			path, m.Datastore, c.Datastore.Name))
	}
	return nil
}

// another is the error of a pool that is somebody else's.
func another(err error) error { return &datastore.ForeignError{Err: err} }

// makeMarker marks a directory as a new pool. Where somebody else was faster, the result is theirs.
func makeMarker(ctx context.Context, root *file.Root, c datastore.Config) (marker, error) {
	m := marker{
		Layout: layout, Pool: c.Tools.NewUUID(), Cluster: c.ClusterID, Machine: c.MachineID,
		Datastore: c.Datastore.Name, Host: c.Host, Created: c.Tools.Now().UTC(),
	}
	data, err := encode(m)
	if err != nil {
		return marker{}, err
	}
	if err := ensureDir(ctx, root, ownDir); err != nil {
		return marker{}, err
	}
	if err := root.CreateFile(ctx, markerName, data, fileMode); err != nil && !fault.Is(err, fault.Exists) {
		return marker{}, err
	}
	return readMarker(root)
}

// adopt makes the pool of another machine this machine's.
func (m marker) adopt(ctx context.Context, root *file.Root, c datastore.Config) (marker, error) {
	m.Machine, m.Host = c.MachineID, c.Host
	data, err := encode(m)
	if err != nil {
		return marker{}, err
	}
	return m, root.WriteFile(ctx, markerName, data, fileMode)
}

// encode writes a document for machines that people read too.
func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}
