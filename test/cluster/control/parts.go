package control

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
)

// Names of the programs, which are those of their logs too.
const (
	etcd       = "etcd"
	apiserver  = "kube-apiserver"
	controller = "kube-controller-manager"
	scheduler  = "kube-scheduler"
)

// etcdSocket is where etcd listens: a socket in the plane's folder, which is the folder that both programs run in. etcd wants it to
// look like a host with a port.
const etcdSocket = "unix://etcd:0"

// startEtcd runs etcd without its fsyncs: it survives its own death and the API server's, and the machine's is the end of
// the tests too.
func (p *Plane) startEtcd() error {
	_, err := p.start(etcd, "etcd", "--data-dir=etcd-data", "--unsafe-no-fsync", "--logger=zap", "--log-level=warn",
		"--listen-client-urls="+etcdSocket, "--advertise-client-urls="+etcdSocket,
		"--listen-peer-urls=unix://etcd:1", "--initial-advertise-peer-urls=unix://etcd:1",
		"--initial-cluster=default=unix://etcd:1")
	return err
}

// startServer runs the API server and waits until it is ready. Where it isn't, it is ended.
func (p *Plane) startServer(ctx context.Context, port int) error {
	hosts := slices.Concat(p.config.Hosts, []string{
		"localhost", "127.0.0.1", p.config.Address, ServiceAddress,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc",
	})
	serving, err := p.authority.issue(apiserver, nil, hosts)
	if err != nil {
		return err
	}
	// It is a client of kubelets: for logs, exec and port forwarding.
	kubelets, err := p.authority.issue("kube-apiserver-kubelet-client", []string{"system:masters"}, nil)
	if err != nil {
		return err
	}
	for name, i := range map[string]Identity{"apiserver": serving, "kubelet-client": kubelets} {
		if err := p.authority.save(name, i); err != nil {
			return err
		}
	}
	bind := p.config.Address
	if p.config.Everywhere {
		bind = "0.0.0.0"
	}
	path := p.authority.path
	one, err := p.start(apiserver, filepath.Join(p.programs, apiserver),
		"--etcd-servers="+etcdSocket,
		"--bind-address="+bind, "--advertise-address="+p.config.Address, "--secure-port="+strconv.Itoa(port),
		"--tls-cert-file="+path("apiserver.crt"), "--tls-private-key-file="+path("apiserver.key"),
		"--client-ca-file="+path("ca.crt"),
		"--kubelet-client-certificate="+path("kubelet-client.crt"), "--kubelet-client-key="+path("kubelet-client.key"),
		"--kubelet-certificate-authority="+path("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+path("sa.pub"), "--service-account-signing-key-file="+path("sa.key"),
		"--service-cluster-ip-range="+serviceRange, "--allow-privileged=true", "--profiling=false", "--v=1")
	if err != nil {
		return err
	}
	err = until(ctx, apiserver, p.running(), func(ctx context.Context) error {
		return p.Call(ctx, http.MethodGet, "/readyz", nil, nil)
	})
	if err != nil {
		return errors.Join(err, p.end(func(other *process) bool { return other == one }))
	}
	return nil
}

// startControllers runs the controller manager and the scheduler, one of each and so without leader election, and returns once the
// first namespace has its default ServiceAccount, without which no pod starts.
func (p *Plane) startControllers(ctx context.Context) error {
	path := p.authority.path
	manager, err := p.User("system:" + controller)
	if err != nil {
		return err
	}
	placer, err := p.User("system:" + scheduler)
	if err != nil {
		return err
	}
	_, err = p.start(controller, filepath.Join(p.programs, controller), "--kubeconfig="+manager, "--leader-elect=false",
		"--use-service-account-credentials=true", "--service-account-private-key-file="+path("sa.key"),
		"--root-ca-file="+path("ca.crt"), "--cluster-signing-cert-file="+path("ca.crt"), "--cluster-signing-key-file="+path("ca.key"),
		"--bind-address=127.0.0.1", "--secure-port=0", "--profiling=false")
	if err != nil {
		return err
	}
	_, err = p.start(scheduler, filepath.Join(p.programs, scheduler), "--kubeconfig="+placer, "--leader-elect=false",
		"--bind-address=127.0.0.1", "--secure-port=0", "--profiling=false")
	if err != nil {
		return err
	}
	return until(ctx, "the default ServiceAccount", p.running(), func(ctx context.Context) error {
		return p.Call(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
	})
}
