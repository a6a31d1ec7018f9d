package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// Owner is the machine that a file belongs to.
type Owner struct {
	Host      string // its name as the records have it
	MachineID string // machine-id(5)
}

// Config is what Open needs. ClusterID may be empty, everything else must be given.
type Config struct {
	// Path of the file. Its folder must exist, and no part of the path may be a symbolic link. The file
	// is made with mode 0600 where there is none.
	Path string
	// Owner of the file, which must be the same at every opening.
	Owner Owner
	// ClusterID is the cluster that the records belong to. Where it is empty, the file's own is taken;
	// a new file then gets one from NewUID.
	ClusterID string
	// Now is the clock for creation and deletion times.
	Now func() time.Time
	// NewUID makes a UUID that was never made before. It is called by one goroutine at a time.
	NewUID func() string
}

// DB is an open file and the records in it.
type DB struct {
	config   Config
	file     *bbolt.DB
	identity identity
	writer   *writer

	datastores *table[v1alpha1.Datastore, *v1alpha1.Datastore]
	hosts      *table[v1alpha1.DatastoreHost, *v1alpha1.DatastoreHost]
	volumes    *table[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume]
	snapshots  *table[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot]
}

// Open opens the file, or makes it, and reads all records into memory. No other process can open it
// until Close, or until this one ends. A crash while the file is made leaves none.
//
// Errors: fault.Precondition where the file belongs to another host, machine or cluster, has a format
// that is not known, or is no file; fault.Busy where another process holds it; fault.DataLoss where it
// is damaged (it is left as it is); fault.NotFound where its folder is missing; fault.Invalid for an
// incomplete config.
func Open(ctx context.Context, config Config) (*DB, error) {
	db, err := open(ctx, config)
	if err != nil {
		return nil, fault.Wrap(err, "open the store", config.Path)
	}
	return db, nil
}

func open(ctx context.Context, config Config) (*DB, error) {
	if err := errors.Join(config.check(), ctx.Err()); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return nil, err
	}
	root, err := file.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p := place{root: root, name: filepath.Base(path)}
	if err := p.make(ctx, config); err != nil {
		return nil, err
	}
	if err := p.examine(); err != nil {
		return nil, err
	}
	db := newDB(config)
	if db.file, err = p.open(false); err != nil {
		return nil, err
	}
	if err := db.load(); err != nil {
		return nil, errors.Join(err, db.file.Close())
	}
	go db.writer.run()
	return db, nil
}

func newDB(config Config) *DB {
	db := &DB{config: config}
	db.datastores = newTable[v1alpha1.Datastore](db, record.Datastores())
	db.hosts = newTable[v1alpha1.DatastoreHost](db, record.Hosts())
	db.volumes = newTable[v1alpha1.DatastoreVolume](db, record.Volumes())
	db.snapshots = newTable[v1alpha1.DatastoreSnapshot](db, record.Snapshots())
	return db
}

// load finds that the file is ours, and reads its records.
func (db *DB) load() error {
	return db.file.View(func(tx *bbolt.Tx) error {
		found, err := readIdentity(tx)
		if err != nil {
			return err
		}
		if err := found.fits(db.config); err != nil {
			return err
		}
		version, err := readVersion(tx)
		if err != nil {
			return err
		}
		for _, t := range db.tables() {
			if err := t.load(tx); err != nil {
				return err
			}
		}
		db.identity = found
		db.writer = newWriter(db.file, db.config.Path, version)
		return nil
	})
}

// loader is a table while its file is opened and closed.
type loader interface {
	bucketName() string
	load(tx *bbolt.Tx) error
	Close()
}

func (db *DB) tables() []loader {
	return []loader{db.datastores, db.hosts, db.volumes, db.snapshots}
}

// Store returns the tables.
func (db *DB) Store() *store.Store {
	return &store.Store{Datastores: db.datastores, Hosts: db.hosts, Volumes: db.volumes, Snapshots: db.snapshots}
}

// ClusterID returns the cluster that the records belong to.
func (db *DB) ClusterID() string { return db.identity.ClusterID }

// Close ends the store: writes that are being committed are finished, all others and every read and
// watch fail with fault.Unavailable. It must be called once.
func (db *DB) Close() error {
	db.writer.close()
	for _, t := range db.tables() {
		t.Close()
	}
	return fault.Wrap(db.file.Close(), "close the store", db.config.Path)
}

func (c Config) check() error {
	switch {
	case c.Path == "":
		return fault.New(fault.Invalid, "no path was given")
	case c.Owner.Host == "":
		return fault.New(fault.Invalid, "no host name was given")
	case c.Owner.MachineID == "":
		return fault.New(fault.Invalid, "no machine-id was given")
	case c.Now == nil || c.NewUID == nil:
		return fault.New(fault.Invalid, "no clock or no maker of UIDs was given")
	}
	return nil
}
