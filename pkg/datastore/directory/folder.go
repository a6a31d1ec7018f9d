package directory

import "github.com/datastore-csi/datastore-csi/pkg/datastore"

const (
	ownDir       = ".datastore-csi"
	markerName   = ownDir + "/pool.json"
	tmpDir       = ownDir + "/tmp"
	trashDir     = ownDir + "/trash"
	volumesDir   = "volumes"
	snapshotsDir = "snapshots"
	archivedDir  = "archived"
)

// snapshotSuffix is behind a snapshot's name in tmp/ and trash/, which volumes share with them.
const snapshotSuffix = ".snapshot"

// folder is a volume's or snapshot's.
func folder(v datastore.Volume) string {
	if v.Snapshot {
		return snapshotsDir + "/" + v.BackendName()
	}
	return volumesDir + "/" + v.BackendName()
}

// passingName is the volume's in tmp/ and trash/.
func passingName(v datastore.Volume) string {
	if v.Snapshot {
		return v.BackendName() + snapshotSuffix
	}
	return v.BackendName()
}
