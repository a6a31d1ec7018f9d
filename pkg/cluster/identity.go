package cluster

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// ID returns what identifies a cluster for its life: the UID of the namespace kube-system, which is made with the
// cluster and cannot be deleted. Nothing has to be stored for it, and a cluster that is restored from a backup has it
// again.
func ID(ctx context.Context, namespaces client.NamespacesGetter) (string, error) {
	system, err := namespaces.Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fault.New(fault.Unavailable, "read the namespace %s, whose UID is the cluster's ID (--cluster-id says another): %w", metav1.NamespaceSystem, err)
	}
	return string(system.UID), nil
}
