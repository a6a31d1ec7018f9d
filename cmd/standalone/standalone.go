// Package standalone wires all roles of the driver into one process that needs no Kubernetes: its records
// lie in a file of its own, and its datastores come from a file of documents.
package standalone

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/hostside"
	"github.com/datastore-csi/datastore-csi/cmd/measure"
	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/cmd/status"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/driver"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// grace is how long running calls may take when the driver ends.
const grace = 10 * time.Second

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
	host       *hostside.Side
	controller *controller.Controller
	metrics    *measure.Metrics
	documents  *documents
	// refreshing tells that the administrator wants everything looked at anew.
	refreshing <-chan os.Signal
}

// open reads the state and wires the parts; nothing works yet.
func open(ctx context.Context, o Options) (*service, error) {
	state, err := parts.OpenState(ctx, o.StateDir, o.Host, o.ClusterID)
	if err != nil {
		return nil, err
	}
	s := &service{options: o, db: state.DB, store: state.Store(), metrics: measure.New()}
	if err := s.wire(ctx, state.Machine); err != nil {
		return nil, errors.Join(err, state.Close())
	}
	return s, nil
}

func (s *service) wire(ctx context.Context, m parts.Machine) error {
	o := s.options
	var err error
	s.host, err = hostside.New(ctx, hostside.Config{
		Host: o.Host, ClusterID: s.db.ClusterID(), Version: o.Version, Machine: m, StateDir: o.StateDir, MountDir: o.MountDir,
		Store: s.store, Metrics: s.metrics, Hook: o.Hook,
	})
	if err != nil {
		return err
	}
	s.controller = controller.New(controller.Config{
		ClusterID: s.db.ClusterID(), Store: s.store, Types: parts.Types(), Now: time.Now, NewUUID: uuid.NewString, Hook: o.Hook,
		Wake: s.host.Agent.Wake,
	})
	s.documents = &documents{path: o.Datastores, store: s.store, valid: s.metrics.DocumentsValid, again: make(chan struct{}, 1)}
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
	if err == nil {
		err = s.host.Run(ctx, group)
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
	group.Go(func() error {
		klog.FromContext(ctx).Info("Serving", "endpoint", s.options.Endpoint, "host", s.options.Host,
			"cluster", s.db.ClusterID(), "version", s.options.Version)
		return driver.New(driver.Config{
			Version: s.options.Version, Types: parts.Types(), Controller: s.controller, Stager: s.host.Stager, Host: s.options.Host,
			MaxVolumes: s.options.MaxVolumesPerNode, Observe: s.metrics.RPC, Hook: s.options.Hook,
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
		s.host.Agent.Refresh()
	}
}

func (s *service) start(ctx context.Context) error {
	if err := s.documents.start(ctx); err != nil {
		return err
	}
	if err := s.host.Agent.Start(ctx); err != nil {
		return err
	}
	return s.controller.Start(ctx)
}

func (s *service) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	s.host.Close(ctx)
	return s.db.Close()
}

// serveMetrics serves the metrics and the status until ctx ends, if they are wanted.
func (s *service) serveMetrics(ctx context.Context, group *errgroup.Group) error {
	s.metrics.Datastores(s.controller)
	return s.metrics.Serve(ctx, group, s.options.MetricsAddress, map[string]http.Handler{status.Path: status.Handler(s.report)})
}

// report is what the driver says of itself to the administrator.
func (s *service) report(ctx context.Context) (status.Report, error) {
	overview, err := s.controller.Overview(ctx)
	if err != nil {
		return status.Report{}, err
	}
	r, err := status.Make(ctx, s.store, overview, s.host.Set.Statuses())
	r.Version, r.Host, r.ClusterID = s.options.Version, s.options.Host, s.db.ClusterID()
	return r, err
}
