package parts

import (
	"fmt"

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
	c, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %q: %w", a.Kubeconfig, err)
	}
	c.QPS = -1
	c.UserAgent = "datastore-csi/" + version
	return c, nil
}
