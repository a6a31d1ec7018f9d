package parts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// API says how a role reaches the Kubernetes API.
type API struct {
	// Kubeconfig is a file; empty is the pod's own account.
	Kubeconfig string
	// Namespace of the driver, where its leases lie.
	Namespace string
	// AccountDir is the folder of the pod's own account; empty is where every container has it.
	AccountDir string
	// ClusterID marks what is on storage; empty is the cluster's own (cluster.ID).
	ClusterID string
}

// AddFlags adds the flags to a set; namespace is the flag's name in that role.
func (a *API) AddFlags(f *pflag.FlagSet, namespace string) {
	f.StringVar(&a.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; the pod's own account where it is not given")
	f.StringVar(&a.Namespace, namespace, "", "namespace of the driver, for its leases (required)")
	f.StringVar(&a.ClusterID, "cluster-id", "", "ID that marks the volumes as this cluster's; the UID of namespace kube-system where it is not given")
}

// Config returns what clients need. They don't limit themselves: the API server's own fairness does.
func (a *API) Config(version string) (*rest.Config, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	c.QPS = -1
	c.UserAgent = "datastore-csi/" + version
	return c, nil
}

func (a *API) load() (*rest.Config, error) {
	if a.Kubeconfig == "" && a.AccountDir != "" {
		return account(a.AccountDir)
	}
	c, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %q: %w", a.Kubeconfig, err)
	}
	return c, nil
}

// account is rest.InClusterConfig for an account that lies elsewhere. The token is renewed in its file, which is read again and again.
func account(dir string) (*rest.Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("find the API server: the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of a pod are not set: give --kubeconfig")
	}
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(host, port),
		BearerTokenFile: filepath.Join(dir, "token"),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "ca.crt")},
	}, nil
}
