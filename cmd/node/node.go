// Package node wires the roles of a host in a cluster: the agent that makes its storage match the records, and on a
// node the CSI node service that the kubelet calls.
package node

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/hostside"
	"github.com/datastore-csi/datastore-csi/cmd/measure"
	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/cluster"
	"github.com/datastore-csi/datastore-csi/pkg/driver"
	"github.com/datastore-csi/datastore-csi/pkg/driver/kubelet"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
	"github.com/datastore-csi/datastore-csi/pkg/store/kube"
)

const (
	stateMode = 0o700
	// pluginMode is the kubelet's own for the folders of plugins.
	pluginMode = 0o750
	// grace is how long running calls may take when the driver ends.
	grace = 10 * time.Second
)

// Run runs a host's roles until ctx ends. What is staged and published stays so.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	r, err := connect(ctx, o)
	if err != nil {
		return err
	}
	err = r.run(ctx)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	r.side.Close(stop)
	r.db.Close()
	return err
}

// role is the running host.
type role struct {
	options Options
	db      *kube.DB
	leases  *coordination.CoordinationV1Client
	side    *hostside.Side
	metrics *measure.Metrics
	health  measure.Health
}

func connect(ctx context.Context, o Options) (*role, error) {
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	machine, err := identify(ctx, o.StateDir)
	if err != nil {
		return nil, err
	}
	config, err := o.Config(o.Version)
	if err != nil {
		return nil, err
	}
	r := &role{options: o, metrics: measure.New()}
	if r.leases, err = coordination.NewForConfig(config); err != nil {
		return nil, err
	}
	namespaces, err := core.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	if r.options.ClusterID == "" {
		if r.options.ClusterID, err = cluster.ID(ctx, namespaces); err != nil {
			return nil, err
		}
	}
	if r.db, err = kube.Open(ctx, kube.Config{API: config, Worker: o.Host, Defaults: true}); err != nil {
		return nil, err
	}
	r.side, err = hostside.New(ctx, hostside.Config{
		Host: o.Host, ClusterID: r.options.ClusterID, Version: o.Version, Machine: machine, StateDir: o.StateDir, MountDir: o.MountDir,
		Store: r.db.Store(), Metrics: r.metrics, Tools: o.Container.Tools(),
	})
	if err != nil {
		r.db.Close()
		return nil, err
	}
	return r, nil
}

// look finds what is not given: the pod's account and the kubelet's directory.
func (o *Options) look(ctx context.Context) (err error) {
	o.AccountDir = o.Container.AccountDir()
	switch {
	case !o.Kubelet || o.KubeletDir != "":
	case o.Container == nil:
		o.KubeletDir = kubeletDir
	default:
		o.KubeletDir, err = o.Container.KubeletDir(ctx, mount.New(mount.Config{}))
	}
	return err
}

// identify makes the state directory where it is missing, and tells which machine this is.
func identify(ctx context.Context, stateDir string) (parts.Machine, error) {
	state, err := file.MakeRoot(ctx, stateDir, stateMode)
	if err != nil {
		return parts.Machine{}, err
	}
	defer state.Close()
	return parts.Identify(ctx, host.New(host.Config{}), state)
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
	registration, err := r.registration(ctx)
	if err != nil {
		return err
	}
	if registration != nil {
		r.health.While = func() error {
			if !registration.Registered() {
				return errors.New("the kubelet has not registered the driver")
			}
			return nil
		}
	}
	if err := r.health.Serve(ctx, group, o.HealthAddress); err != nil {
		return err
	}
	group.Go(func() error { cluster.Beat(ctx, r.leases.Leases(o.Namespace), o.Host, time.Now); return nil })
	if err := r.side.Agent.Start(ctx); err != nil {
		return err
	}
	if err := r.side.Run(ctx, group); err != nil {
		return err
	}
	if err := r.metrics.Serve(ctx, group, o.MetricsAddress, nil); err != nil {
		return err
	}
	if registration != nil {
		if err := r.serve(ctx, group, registration); err != nil {
			return err
		}
	}
	klog.FromContext(ctx).Info("Serving", "host", o.Host, "cluster", o.ClusterID, "version", o.Version)
	r.health.Ready()
	return nil
}

// pluginDir is the folder of the driver's socket in the kubelet's.
func (o Options) pluginDir() string {
	return filepath.Join(o.KubeletDir, "plugins", v1alpha1.DriverName)
}

func (o Options) endpoint() string { return filepath.Join(o.pluginDir(), "csi.sock") }

// registration prepares what the kubelet finds the node service by; nil where there is no kubelet.
func (r *role) registration(ctx context.Context) (*kubelet.Registration, error) {
	o := r.options
	if !o.Kubelet {
		return nil, nil
	}
	path := filepath.Join(o.KubeletDir, "plugins_registry", v1alpha1.DriverName+"-reg.sock")
	if err := folder(ctx, o.pluginDir()); err != nil {
		return nil, err
	}
	return kubelet.New(kubelet.Config{
		Endpoint: o.endpoint(),
		Listen: func(ctx context.Context) (net.Listener, error) {
			if err := folder(ctx, filepath.Dir(path)); err != nil {
				return nil, err
			}
			return socket.Listen(ctx, path)
		},
		There: func() bool { return socket.Is(path) },
	}), nil
}

// folder makes a folder of the kubelet's where it is missing.
func folder(ctx context.Context, path string) error {
	made, err := file.MakeRoot(ctx, path, pluginMode)
	if err == nil {
		made.Close()
	}
	return err
}

// serve serves CSI to the kubelet, and registers with it.
func (r *role) serve(ctx context.Context, group *errgroup.Group, registration *kubelet.Registration) error {
	l, err := socket.Listen(ctx, r.options.endpoint())
	if err != nil {
		return err
	}
	group.Go(func() error {
		return driver.New(driver.Config{
			Version: r.options.Version, Types: parts.Types(), Stager: r.side.Stager, Host: r.options.Host,
			MaxVolumes: r.options.MaxVolumesPerNode, Observe: r.metrics.RPC,
		}).Serve(ctx, l, grace)
	})
	group.Go(func() error { return registration.Run(ctx) })
	return nil
}
