// Package controller wires the role that answers the cluster's CSI sidecars. It needs no privilege: it writes records, and
// agents make them true.
package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/measure"
	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/cluster"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/driver"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
)

const (
	// grace is how long running calls may take when the controller ends.
	grace = 10 * time.Second
	// leaderLease is the name of the leader's lease.
	leaderLease = "datastore-csi-controller"
)

// Run runs the controller until ctx ends.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	c, err := connect(ctx, o)
	if err != nil {
		return err
	}
	defer c.db.Close()
	return c.run(ctx)
}

// role is the running controller.
type role struct {
	options    Options
	db         *kube.DB
	leases     *coordination.CoordinationV1Client
	core       *core.CoreV1Client
	liveness   *cluster.Liveness
	controller *controller.Controller
	metrics    *measure.Metrics
	health     measure.Health
}

func connect(ctx context.Context, o Options) (*role, error) {
	config, err := o.Config(o.Version)
	if err != nil {
		return nil, err
	}
	r := &role{options: o, metrics: measure.New()}
	if r.leases, err = coordination.NewForConfig(config); err != nil {
		return nil, err
	}
	if r.core, err = core.NewForConfig(config); err != nil {
		return nil, err
	}
	if r.options.ClusterID == "" {
		if r.options.ClusterID, err = cluster.ID(ctx, r.core); err != nil {
			return nil, err
		}
	}
	if r.db, err = kube.Open(ctx, kube.Config{API: config, Defaults: true}); err != nil {
		return nil, err
	}
	r.liveness = cluster.NewLiveness(r.leases.Leases(o.Namespace), time.Now)
	tables := r.db.Store()
	tables.Hosts = cluster.Hosts(tables.Hosts, r.liveness.Silent)
	r.controller = controller.New(controller.Config{
		ClusterID: r.options.ClusterID, Store: tables, Types: parts.Types(), Now: time.Now, NewUUID: uuid.NewString,
		HoldDatastores: true,
	})
	return r, nil
}

func (r *role) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	err := r.start(ctx, group)
	if err != nil {
		cancel()
	}
	return errors.Join(err, group.Wait())
}

func (r *role) start(ctx context.Context, group *errgroup.Group) error {
	o := r.options
	if err := r.health.Serve(ctx, group, o.HealthAddress); err != nil {
		return err
	}
	r.metrics.Datastores(r.controller)
	if err := r.metrics.Serve(ctx, group, o.MetricsAddress, nil); err != nil {
		return err
	}
	group.Go(func() error { r.liveness.Run(ctx); return nil })
	if err := r.controller.Start(ctx); err != nil {
		return err
	}
	path, err := socket.Path(o.Endpoint)
	if err != nil {
		return err
	}
	l, err := socket.Listen(ctx, path)
	if err != nil {
		return err
	}
	group.Go(func() error { return r.controller.Follow(ctx) })
	group.Go(func() error {
		election := cluster.Election{Leases: r.leases, Namespace: o.Namespace, Name: leaderLease, Identity: o.Identity}
		return election.Lead(ctx, r.lead)
	})
	group.Go(func() error {
		klog.FromContext(ctx).Info("Serving", "endpoint", o.Endpoint, "cluster", o.ClusterID, "version", o.Version)
		r.health.Ready()
		return driver.New(driver.Config{Version: o.Version, Types: parts.Types(), Controller: r.controller, Observe: r.metrics.RPC}).Serve(ctx, l, grace)
	})
	return nil
}

// lead does what one controller does at a time.
func (r *role) lead(ctx context.Context) {
	log := klog.FromContext(ctx)
	log.Info("Leading")
	tables := r.db.Store()
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() {
		cluster.Leftovers{
			Driver: v1alpha1.DriverName, Volumes: tables.Volumes, Claims: r.core, PVs: r.core, Delete: r.controller.Delete, Now: time.Now,
		}.Run(ctx)
	})
	others.Go(func() {
		events := cluster.Events{Datastores: tables.Datastores, Volumes: tables.Volumes, Recorder: cluster.NewRecorder(ctx, r.core)}
		if err := events.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error(err, "Posting events failed")
		}
	})
	if err := r.controller.Lead(ctx); err != nil && ctx.Err() == nil {
		log.Error(err, "Leading failed")
	}
}
