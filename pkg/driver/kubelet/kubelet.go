// Package kubelet registers the node service with the kubelet of its node, as a plugin that it finds by a socket in its
// folder plugins_registry. No other container is needed for it.
package kubelet

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// csiVersion is what the kubelet compares: a version of the CSI specification with the major version that it speaks.
const csiVersion = "1.0.0"

// lookEvery is how often the socket is looked for.
const lookEvery = 10 * time.Second

// Config is what Register needs.
type Config struct {
	// Endpoint is the path of the node service's socket, as the kubelet sees it.
	Endpoint string
	// Listen makes the registration socket.
	Listen func(context.Context) (net.Listener, error)
	// There tells whether the socket that Listen made last is still in its place.
	There func() bool
}

// Registration is one node's. Its methods may be called concurrently.
type Registration struct {
	registration.UnimplementedRegistrationServer
	config     Config
	registered atomic.Bool
}

// New returns a registration that Run keeps.
func New(c Config) *Registration { return &Registration{config: c} }

// Registered tells whether the kubelet knows the driver: it said so, and nothing to the contrary since.
func (r *Registration) Registered() bool { return r.registered.Load() }

// Run serves the registration until ctx ends. A kubelet that restarts finds the socket again; where somebody removed it (with
// the kubelet's whole folder, say), it is made anew.
func (r *Registration) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		l, err := r.config.Listen(ctx)
		if err == nil {
			err = r.serve(ctx, l)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		klog.FromContext(ctx).Error(err, "Registering with the kubelet failed; it is tried again")
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// serve serves on a socket until it is gone from its place, or ctx ends.
func (r *Registration) serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer server.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !r.config.There() {
			klog.FromContext(ctx).Info("The registration socket is gone from the kubelet's folder; making it anew")
			r.registered.Store(false)
			return nil
		}
	}
}

// GetInfo implements the kubelet's plugin registration API.
func (r *Registration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: v1alpha1.DriverName, Endpoint: r.config.Endpoint, SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus implements the kubelet's plugin registration API.
func (r *Registration) NotifyRegistrationStatus(ctx context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	r.registered.Store(s.GetPluginRegistered())
	if s.GetPluginRegistered() {
		klog.FromContext(ctx).Info("The kubelet has registered the driver")
	} else {
		klog.FromContext(ctx).Error(nil, "The kubelet refuses the driver; it tries again by itself", "reason", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
