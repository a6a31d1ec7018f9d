package embedded

import (
	"encoding/json"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// format is the version of the file's layout, as doc.go describes it.
	format = 1

	storeBucket = "store"
	identityKey = "identity"
	versionKey  = "resourceVersion"
)

// identity is what a file remembers of its first opening.
type identity struct {
	Format    int    `json:"format"`
	Host      string `json:"host"`
	MachineID string `json:"machineID"`
	ClusterID string `json:"clusterID"`
}

// identify makes a new file ours, or finds that this one is.
func (db *DB) identify() error {
	var found *identity
	err := db.file.View(func(tx *bbolt.Tx) error {
		var err error
		found, err = readIdentity(tx)
		return err
	})
	if err != nil {
		return err
	}
	if found == nil {
		return db.begin()
	}
	if err := found.fits(db.config); err != nil {
		return err
	}
	db.identity = *found
	return nil
}

// begin fills a new file, in one transaction: a crash leaves a file that is new still.
func (db *DB) begin() error {
	db.identity = identity{
		Format: format, Host: db.config.Owner.Host, MachineID: db.config.Owner.MachineID, ClusterID: db.config.ClusterID,
	}
	if db.identity.ClusterID == "" {
		db.identity.ClusterID = db.config.NewUID()
	}
	text, err := json.Marshal(db.identity)
	if err != nil {
		return err
	}
	err = db.file.Update(func(tx *bbolt.Tx) error {
		for _, t := range db.tables() {
			if _, err := tx.CreateBucket([]byte(t.bucketName())); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucket([]byte(storeBucket))
		if err != nil {
			return err
		}
		if err := b.Put([]byte(identityKey), text); err != nil {
			return err
		}
		return setVersion(tx, 0)
	})
	return fault.As(fault.Unavailable, err)
}

// readIdentity returns nil for a file that has none because it is new.
func readIdentity(tx *bbolt.Tx) (*identity, error) {
	b := tx.Bucket([]byte(storeBucket))
	if b == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return nil, fault.New(fault.Precondition, "it is a bbolt file of something else, with a bucket %q: name another file", name)
		}
		return nil, nil
	}
	found := new(identity)
	if err := json.Unmarshal(b.Get([]byte(identityKey)), found); err != nil {
		return nil, damaged(fmt.Errorf("its identity cannot be read: %w", err))
	}
	return found, nil
}

// fits fails unless the file is the one that the config wants.
func (f identity) fits(c Config) error {
	switch {
	case f.Format != format:
		return fault.New(fault.Precondition, "it has format %d, and this version of datastore-csi knows format %d only: run the version that wrote it",
			f.Format, format)
	case f.Host != c.Owner.Host || f.MachineID != c.Owner.MachineID:
		return fault.New(fault.Precondition, "it belongs to host %q (machine-id %s), and this is host %q (machine-id %s): "+
			"its volumes lie on that machine; start there, under that name, or give this host a state folder of its own",
			f.Host, f.MachineID, c.Owner.Host, c.Owner.MachineID)
	case c.ClusterID != "" && f.ClusterID != c.ClusterID:
		return fault.New(fault.Precondition, "it belongs to cluster %q, and cluster %q was asked for: "+
			"its volumes bear that cluster's mark; ask for that cluster or for none, or use a state folder of its own",
			f.ClusterID, c.ClusterID)
	case f.ClusterID == "":
		return damaged(fmt.Errorf("it names no cluster"))
	}
	return nil
}

// readVersion returns the last resource version that was given out.
func readVersion(tx *bbolt.Tx) (uint64, error) {
	b := tx.Bucket([]byte(storeBucket))
	if b == nil {
		return 0, damaged(fmt.Errorf("bucket %q is missing", storeBucket))
	}
	version, err := strconv.ParseUint(string(b.Get([]byte(versionKey))), 10, 64)
	if err != nil {
		return 0, damaged(fmt.Errorf("its resource version cannot be read: %w", err))
	}
	return version, nil
}

func setVersion(tx *bbolt.Tx, version uint64) error {
	return tx.Bucket([]byte(storeBucket)).Put([]byte(versionKey), []byte(strconv.FormatUint(version, 10)))
}
