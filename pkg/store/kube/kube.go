package kube

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// workerField is a selectable field of volumes and snapshots: their CRDs say so.
const workerField = "spec.worker.host"

// Config is what Open needs.
type Config struct {
	// API says how the API server is reached. It is not altered.
	API *rest.Config
	// Worker is the host whose volumes and snapshots List and Watch tell of: those that it is the worker of. Empty is
	// all. Get and the writes reach all records either way.
	Worker string
	// Defaults fills in what a Datastore's spec leaves out, in each that is read. Its spec is the administrator's: an update then
	// writes the finalizers and nothing else.
	Defaults bool
}

// DB is the records of one cluster.
type DB struct {
	stop    context.CancelFunc
	mirrors sync.WaitGroup

	datastores *table[v1alpha1.Datastore, *v1alpha1.Datastore]
	hosts      *table[v1alpha1.DatastoreHost, *v1alpha1.DatastoreHost]
	volumes    *table[v1alpha1.DatastoreVolume, *v1alpha1.DatastoreVolume]
	snapshots  *table[v1alpha1.DatastoreSnapshot, *v1alpha1.DatastoreSnapshot]
}

// Open returns the records of the cluster that a config names. It does not ask the API server for anything yet; the
// error is about the config. The store works until Close or until ctx ends.
func Open(ctx context.Context, config Config) (*DB, error) {
	client, err := newClient(config.API)
	if err != nil {
		return nil, fault.Wrap(fault.As(fault.Invalid, err), "open", "the store in the Kubernetes API")
	}
	ctx, stop := context.WithCancel(ctx)
	db := &DB{stop: stop}
	mine := fields.Everything()
	if config.Worker != "" {
		mine = fields.OneTermEqualSelector(workerField, config.Worker)
	}
	start := func(mirror func(context.Context)) { db.mirrors.Go(func() { mirror(ctx) }) }
	db.datastores = newTable(record.Datastores(), client, fields.Everything(), start)
	db.hosts = newTable(record.Hosts(), client, fields.Everything(), start)
	db.volumes = newTable(record.Volumes(), client, mine, start)
	db.snapshots = newTable(record.Snapshots(), client, mine, start)
	if config.Defaults {
		db.datastores.prepare = func(d *v1alpha1.Datastore) { d.SetDefaults() }
	}
	return db, nil
}

// Store returns the tables.
func (db *DB) Store() *store.Store {
	return &store.Store{Datastores: db.datastores, Hosts: db.hosts, Volumes: db.volumes, Snapshots: db.snapshots}
}

// Close ends the store: every list and watch fails with fault.Unavailable from then on. It must be called once.
func (db *DB) Close() {
	db.stop()
	for _, t := range []interface{ Close() }{db.datastores, db.hosts, db.volumes, db.snapshots} {
		t.Close()
	}
	db.mirrors.Wait()
}
