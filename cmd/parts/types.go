package parts

import (
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/disk"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/lvm"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// Types are the types of datastore that this version serves.
func Types() []datastore.Type {
	return []datastore.Type{directory.Type(), partition.Type(), disk.Type(), lvm.Type()}
}

// DefaultMountDir is gone with the next boot, as its mounts are, and nobody takes it for the driver's own state.
const DefaultMountDir = "/run/datastore-csi/mounts"

// Folders gives the tools the folders that pools which are opened, and not only looked at, need. Drivers of two clusters on one
// host keep out of each other's mounts.
func Folders(t datastore.Tools, stateDir, mountDir, clusterID string) datastore.Tools {
	t.MountDir, t.StateDir = filepath.Join(mountDir, clusterID), filepath.Join(stateDir, "pools")
	return t
}

// Tools are this machine's facilities for pools. Those that are opened, and not only looked at, need Folders besides.
func Tools(run *command.Runner) (datastore.Tools, error) {
	loops, err := loop.New(loop.Config{})
	return datastore.Tools{Command: run, Loop: loops, Now: time.Now, NewUUID: uuid.NewString}, err
}
