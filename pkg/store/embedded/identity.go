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

func newIdentity(c Config) identity {
	i := identity{Format: format, Host: c.Owner.Host, MachineID: c.Owner.MachineID, ClusterID: c.ClusterID}
	if i.ClusterID == "" {
		i.ClusterID = c.NewUID()
	}
	return i
}

// write fills a new file.
func (f identity) write(tx *bbolt.Tx) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	names := []string{storeBucket}
	for _, t := range newDB(Config{}).tables() {
		names = append(names, t.bucketName())
	}
	for _, name := range names {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	if err := tx.Bucket([]byte(storeBucket)).Put([]byte(identityKey), text); err != nil {
		return err
	}
	return setVersion(tx, 0)
}

func readIdentity(tx *bbolt.Tx) (identity, error) {
	var found identity
	b := tx.Bucket([]byte(storeBucket))
	if b == nil {
		return found, fault.New(fault.Precondition, "it is a bbolt file of something else, without a bucket %q: name another file", storeBucket)
	}
	if err := json.Unmarshal(b.Get([]byte(identityKey)), &found); err != nil {
		return found, damaged(fmt.Errorf("its identity cannot be read: %w", err))
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
