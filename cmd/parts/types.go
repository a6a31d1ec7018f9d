package parts

import (
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

// Tools are this machine's facilities for pools. Those that are opened, and not only looked at, need folders besides.
func Tools(run *command.Runner) (datastore.Tools, error) {
	loops, err := loop.New(loop.Config{})
	return datastore.Tools{Command: run, Loop: loops, Now: time.Now, NewUUID: uuid.NewString}, err
}
