package parts

import (
	"context"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const (
	stateMode   = 0o700
	recordsFile = "records.db"
)

// State is the open state directory of a driver: no other process works with it until it is closed.
type State struct {
	*embedded.DB
	Machine Machine
	// Host is this machine's name among the hosts.
	Host string
}

// OpenState opens a state directory, or makes it. Where another process holds it, the error is fault.Busy.
func OpenState(ctx context.Context, dir, hostName, clusterID string) (*State, error) {
	root, err := file.MakeRoot(ctx, dir, stateMode)
	if err != nil {
		return nil, fault.Wrap(err, "open the state directory", dir)
	}
	defer root.Close()
	machine, err := Identify(ctx, host.New(host.Config{}), root)
	if err != nil {
		return nil, err
	}
	db, err := embedded.Open(ctx, embedded.Config{
		Path:  filepath.Join(dir, recordsFile),
		Owner: embedded.Owner{Host: hostName, MachineID: machine.ID}, ClusterID: clusterID,
		Now: time.Now, NewUID: uuid.NewString,
	})
	if err != nil {
		return nil, err
	}
	return &State{DB: db, Machine: machine, Host: hostName}, nil
}

// ReopenState opens a state directory that holds records, whosever of this machine's hosts they are.
func ReopenState(ctx context.Context, dir string) (*State, error) {
	owner, clusterID, err := embedded.Identify(filepath.Join(dir, recordsFile))
	if err != nil {
		return nil, err
	}
	return OpenState(ctx, dir, owner.Host, clusterID)
}

// HasRecords tells whether a state directory is there and holds a file of records.
func HasRecords(dir string) (bool, error) {
	root, err := file.OpenRoot(dir)
	if err == nil {
		defer root.Close()
		_, err = root.Stat(recordsFile)
	}
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, fault.Wrap(err, "open the state directory", dir)
}
