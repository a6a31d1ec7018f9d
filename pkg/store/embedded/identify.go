package embedded

import (
	"errors"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Identify returns whose a file is, and of which cluster, without opening it for writing. Errors are those of Open;
// no file is fault.NotFound.
func Identify(path string) (owner Owner, clusterID string, err error) {
	found, err := identify(path)
	return Owner{Host: found.Host, MachineID: found.MachineID}, found.ClusterID, fault.Wrap(err, "look at the store", path)
}

func identify(path string) (found identity, err error) {
	root, err := file.OpenRoot(filepath.Dir(path))
	if err != nil {
		return found, err
	}
	defer root.Close()
	p := place{root: root, name: filepath.Base(path)}
	if err := p.examine(); err != nil {
		return found, err
	}
	db, err := p.open(true)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) (err error) {
		found, err = readIdentity(tx)
		return err
	})
	return found, err
}
