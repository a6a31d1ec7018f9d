// Package standalone wires all roles of the driver into one process that needs no Kubernetes: its records
// lie in a file of its own, and its datastores come from a file of documents.
package standalone

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/agent"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/driver"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

const (
	// measureEvery is how often a pool is measured that nobody changes through the driver.
	measureEvery = 10 * time.Second
	// auditEvery is how often what lies on a pool is compared with the records.
	auditEvery = 10 * time.Minute
	// patience is how long a pool may take to answer before it counts as one that does not.
	patience = 5 * time.Second
	// workers a datastore: mkfs keeps a core busy for a moment, everything else waits for the disk.
	workers = 8
	// grace is how long running calls may take when the driver ends.
	grace = 10 * time.Second
)

// Run runs the driver until ctx ends. What is staged and published stays so. Errors are about the whole
// driver; a datastore that cannot be served is none.
func Run(ctx context.Context, o Options) error {
	if err := errors.Join(o.Validate(), o.absolute()); err != nil {
		return err
	}
	// From the beginning: one that isn't listened to ends the process.
	refresh := make(chan os.Signal, 1)
	signal.Notify(refresh, syscall.SIGHUP)
	defer signal.Stop(refresh)
	s, err := open(ctx, o)
	if err != nil {
		return err
	}
	s.refreshing = refresh
	err = s.run(ctx)
	return errors.Join(err, s.close(context.WithoutCancel(ctx)))
}

// service is the running driver.
type service struct {
	options    Options
	db         *embedded.DB
	store      *store.Store
	set        *datastore.Set
	agent      *agent.Agent
	controller *controller.Controller
	stager     *stage.Stager
	metrics    *metrics
	documents  *documents
	rest       rest
	// refreshing tells that the administrator wants everything looked at anew.
	refreshing <-chan os.Signal
}

// open reads the state and wires the parts; nothing works yet.
func open(ctx context.Context, o Options) (*service, error) {
	state, err := parts.OpenState(ctx, o.StateDir, o.Host, o.ClusterID)
	if err != nil {
		return nil, err
	}
	s := &service{options: o, db: state.DB, store: state.Store(), metrics: newMetrics()}
	if err := s.wire(ctx, state.Machine); err != nil {
		return nil, errors.Join(err, state.Close())
	}
	return s, nil
}

func (s *service) wire(ctx context.Context, m parts.Machine) error {
	o := s.options
	run := command.New(command.Config{Observe: s.metrics.command})
	tools, err := parts.Tools(run)
	if err != nil {
		return err
	}
	// Drivers of two clusters on one host keep out of each other's mounts.
	tools.MountDir, tools.StateDir = filepath.Join(o.MountDir, s.db.ClusterID()), filepath.Join(o.StateDir, "pools")
	s.set = datastore.NewSet(datastore.SetConfig{
		Types: parts.Types(), Host: o.Host, MachineID: m.ID, ClusterID: s.db.ClusterID(), Interval: measureEvery, Patience: patience,
		Tools: tools,
	})
	s.stager, err = stage.New(ctx, stage.Config{
		Host: o.Host, BootID: m.BootID, Volumes: s.store.Volumes, Set: s.set, Mounter: mount.New(mount.Config{}),
		Command: run, Dir: filepath.Join(o.StateDir, "stage"), Hook: o.Hook,
	})
	if err != nil {
		return err
	}
	s.agent = agent.New(agent.Config{
		Host: o.Host, MachineID: m.ID, BootID: m.BootID, Version: o.Version, Store: s.store, Set: s.set, Workers: workers,
		AuditEvery: auditEvery, Quiesce: s.stager.Quiesce, Now: time.Now, Hook: o.Hook,
		Observe: func(operation, result string, took time.Duration) {
			s.rest.note()
			s.metrics.work(operation, result, took)
		},
	})
	s.controller = controller.New(controller.Config{
		ClusterID: s.db.ClusterID(), Store: s.store, Types: parts.Types(), Now: time.Now, NewUUID: uuid.NewString, Hook: o.Hook,
		Wake: s.agent.Wake,
	})
	s.documents = &documents{path: o.Datastores, store: s.store, valid: s.metrics.documentsValid, again: make(chan struct{}, 1)}
	return nil
}

// run starts the parts in the order in which they need each other, and listens when all are ready.
func (s *service) run(ctx context.Context) error {
	path, err := socket.Path(s.options.Endpoint)
	if err != nil {
		return err
	}
	l, err := socket.Listen(ctx, path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	err = s.start(ctx)
	// What is staged is claimed before the agent comes to work on it.
	var reconcile func(context.Context) error
	if err == nil {
		reconcile, err = s.stager.Claim(ctx)
	}
	if err == nil {
		group.Go(func() error { return s.agent.Run(ctx) })
		err = patiently(ctx, reconcile)
	}
	if err == nil {
		err = s.serveMetrics(ctx, group)
	}
	if err != nil {
		cancel()
		return errors.Join(err, group.Wait(), l.Close())
	}
	group.Go(func() error { return s.controller.Run(ctx) })
	group.Go(func() error { return s.documents.watch(ctx) })
	group.Go(func() error { return s.refresh(ctx) })
	group.Go(func() error { return s.rest.run(ctx) })
	group.Go(func() error {
		klog.FromContext(ctx).Info("Serving", "endpoint", s.options.Endpoint, "host", s.options.Host,
			"cluster", s.db.ClusterID(), "version", s.options.Version)
		return driver.New(driver.Config{
			Version: s.options.Version, Types: parts.Types(), Controller: s.controller, Stager: s.stager, Host: s.options.Host,
			MaxVolumes: s.options.MaxVolumesPerNode, Observe: s.metrics.rpc, Hook: s.options.Hook,
		}).Serve(ctx, l, grace)
	})
	return group.Wait()
}

// refresh reads the datastores anew, measures all pools and compares what lies on them with the records, whenever it is asked
// for, until ctx ends.
func (s *service) refresh(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.refreshing:
		}
		klog.FromContext(ctx).Info("Looking at the datastores anew")
		select {
		case s.documents.again <- struct{}{}:
		default: // it will be done
		}
		s.agent.Refresh()
	}
}

func (s *service) start(ctx context.Context) error {
	if err := s.documents.start(ctx); err != nil {
		return err
	}
	if err := s.agent.Start(ctx); err != nil {
		return err
	}
	return s.controller.Start(ctx)
}

// patiently gives staged volumes their first look, no longer than the patience for one pool.
func patiently(ctx context.Context, reconcile func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return reconcile(ctx)
}

func (s *service) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	s.stager.ThawAll()
	s.set.Close(ctx)
	// The folder of stage records stays open: a call that hangs in the kernel may still come to use it.
	return s.db.Close()
}
