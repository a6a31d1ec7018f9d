package lvm

import (
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// marker says whose pool a volume group or a thin pool is. It is one tag of it.
type marker struct {
	Pool, Cluster, Machine, Datastore string
	// Host that the pool was made on, as its records name it.
	Host    string
	Created time.Time
}

// The names of a marker's fields beside those of a mark.
const (
	fPool      = "p"
	fMachine   = "m"
	fDatastore = "d"
	fHost      = "h"
)

func newMarker(c datastore.Config) marker {
	return marker{
		Pool: c.Tools.NewUUID(), Cluster: c.ClusterID, Machine: c.MachineID, Datastore: c.Datastore.Name, Host: c.Host, Created: c.Tools.Now().UTC(),
	}
}

func (m marker) tag() string {
	return markerTag + fields{
		fLayout: layout, fPool: m.Pool, fCluster: m.Cluster, fMachine: m.Machine, fDatastore: m.Datastore, fHost: m.Host, fCreated: stamp(m.Created),
	}.encode()
}

// readMarker finds the marker among tags. None is fault.NotFound, one that can't be understood fault.Precondition.
func readMarker(tags []string, where string) (marker, error) {
	found := having(tags, markerTag)
	if len(found) == 0 {
		return marker{}, fault.New(fault.NotFound, "%s bears no marker (%s...)", where, markerTag)
	}
	if len(found) > 1 {
		return marker{}, fault.New(fault.Precondition, "%s bears %d markers (%s...); remove those that are wrong, nothing was changed", where, len(found), markerTag)
	}
	f, err := decode(found[0][len(markerTag):])
	if err == nil && f[fLayout] != layout {
		err = fault.New(fault.Precondition, "it has layout %q, this version knows %s; use the version that made it", shorten(f[fLayout]), layout)
	}
	m := marker{Pool: f[fPool], Cluster: f[fCluster], Machine: f[fMachine], Datastore: f[fDatastore], Host: f[fHost]}
	if err == nil {
		m.Created, err = parseStamp(f[fCreated])
	}
	if err == nil && m.Pool == "" {
		err = fault.New(fault.Precondition, "it names no pool")
	}
	if err != nil {
		return marker{}, fault.New(fault.Precondition, "the marker of %s can't be read: %w; restore it, nothing was changed", where, err)
	}
	return m, nil
}

// samePool tells whether two markers, read at different times, are of one pool in the same hands.
func (m marker) samePool(o marker) bool {
	return m.Pool == o.Pool && m.Cluster == o.Cluster && m.Machine == o.Machine && m.Datastore == o.Datastore
}

// judge tells whether a marker that was found is that of the datastore's pool on this machine.
func (m marker) judge(c datastore.Config, where string) error {
	switch {
	case c.PoolUUID != "" && m.Pool != c.PoolUUID:
		return fault.New(fault.Unavailable, "%s holds pool %s, not pool %s of datastore %q; were its disks exchanged? Nothing was changed",
			where, shorten(m.Pool), c.PoolUUID, c.Datastore.Name)
	case m.Cluster != c.ClusterID:
		return another(fault.New(fault.Precondition, "%s is a pool of cluster %q, this is cluster %q; give each cluster a volume group or thin pool of its own",
			where, shorten(m.Cluster), c.ClusterID))
	case m.Datastore != c.Datastore.Name:
		return another(fault.New(fault.Precondition, "%s is the pool of datastore %q, not of %q; use that name, or another volume group or thin pool",
			where, shorten(m.Datastore), c.Datastore.Name))
	case m.Machine != c.MachineID && m.Machine != c.Datastore.Spec.LVM.AdoptFrom:
		return another(fault.New(fault.Precondition, "%s is a pool of the machine with machine-id %s, this is %s; if its disks were moved here for good, "+
			"set spec.lvm.adoptFrom to the former", where, shorten(m.Machine), c.MachineID))
	}
	return nil
}

// another is the error of a pool that is somebody else's.
func another(err error) error { return &datastore.ForeignError{Err: err} }
