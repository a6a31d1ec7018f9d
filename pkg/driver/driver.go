// Package driver speaks CSI over gRPC. Every RPC has one shape: validate the request, make one call of the
// domain, map its error to a code. What is advertised derives from the registered datastore types.
package driver

import (
	"context"
	"net"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Controller is the domain behind the controller service.
type Controller interface {
	Create(context.Context, controller.CreateRequest) (*v1alpha1.DatastoreVolume, error)
	Delete(ctx context.Context, id string) error
	Get(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error)
	GetReady(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error)
	Publish(context.Context, controller.PublishRequest) (generation int64, err error)
	Unpublish(ctx context.Context, id, host string) error
	List(ctx context.Context, token string, max int) (controller.Page[*v1alpha1.DatastoreVolume], error)
	Capacity(context.Context, controller.CapacityRequest) controller.Capacity
	Expand(ctx context.Context, id string, r controller.Range) (controller.Expanded, error)
	Modify(ctx context.Context, id string, parameters map[string]string) error
	CanBecome(ctx context.Context, v *v1alpha1.DatastoreVolume, parameters map[string]string) error
	Health(ctx context.Context, id string) (controller.Health, error)
	ListHealth(ctx context.Context, token string, max int) (controller.Page[controller.Health], error)

	CreateSnapshot(context.Context, controller.SnapshotRequest) (*v1alpha1.DatastoreSnapshot, error)
	DeleteSnapshot(ctx context.Context, id string) error
	Snapshot(ctx context.Context, id string) (*v1alpha1.DatastoreSnapshot, error)
	ListSnapshots(ctx context.Context, f controller.SnapshotFilter, token string, max int) (controller.Page[*v1alpha1.DatastoreSnapshot], error)
}

// Stager is the domain behind the node service.
type Stager interface {
	Stage(context.Context, stage.Request) error
	Unstage(ctx context.Context, id, path string) error
	Publish(context.Context, stage.PublishRequest) error
	Unpublish(ctx context.Context, id, path string) error
	Stats(ctx context.Context, id, path string) (stage.Stats, error)
	Expand(ctx context.Context, id, path string, required int64) (bytes int64, err error)
	Health(ctx context.Context, id, staging, target string) ([]v1alpha1.Problem, error)
	StorageHealth() []stage.StorageProblem
}

// Config is what a Driver needs.
type Config struct {
	Version string
	Types   []datastore.Type
	// Controller and Stager are served where they are not nil.
	Controller Controller
	Stager     Stager
	// Host is this node's ID.
	Host string
	// MaxVolumes that may be published to a node at a time; 0 is no bound.
	MaxVolumes int64
	// Observe is told of every RPC: its method, the code that it ended with, how long it took.
	Observe func(method, code string, took time.Duration)
	// Hook stands in the context of every RPC; nil in the shipped binary.
	Hook step.Hook
}

// Driver serves the identity, controller and node services.
type Driver struct {
	config   Config
	grpc     *grpc.Server
	features features
}

// New returns a driver that does not listen yet.
func New(c Config) *Driver {
	d := &Driver{config: c, features: union(c.Types)}
	d.grpc = grpc.NewServer(grpc.ChainUnaryInterceptor(d.observe, recoverPanic, bound, d.hook))
	csi.RegisterIdentityServer(d.grpc, &identity{driver: d})
	if c.Controller != nil {
		csi.RegisterControllerServer(d.grpc, &controllerServer{driver: d, inFlight: newInFlight()})
	}
	if c.Stager != nil {
		csi.RegisterNodeServer(d.grpc, &nodeServer{driver: d})
	}
	return d
}

// Serve serves on a listener until ctx ends, then lets running calls end for as long as the grace lasts. A
// call that hangs in the kernel is left behind.
func (d *Driver) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- d.grpc.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		d.grpc.GracefulStop()
	}()
	end := time.NewTimer(grace)
	defer end.Stop()
	select {
	case <-stopped:
	case <-end.C:
		// Stop waits for the calls, too, after it has cancelled them.
		go d.grpc.Stop()
	}
	return nil
}
