package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// object is a record as the API machinery takes it.
type object[T any] interface {
	store.Record[T]
	runtime.Object
}

// list is what the API server lists of one kind.
type list[T any, P object[T]] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []T `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *list[T, P]) DeepCopyObject() runtime.Object {
	out := &list[T, P]{TypeMeta: l.TypeMeta, Items: make([]T, len(l.Items))}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items[i] = *P(&l.Items[i]).DeepCopy()
	}
	return out
}

// newClient returns a client for the records' API group. It does not limit itself: the API server's own fairness does.
func newClient(config *rest.Config) (rest.Interface, error) {
	version := schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}
	scheme := runtime.NewScheme()
	register[v1alpha1.Datastore](scheme, version.WithKind("Datastore"))
	register[v1alpha1.DatastoreHost](scheme, version.WithKind("DatastoreHost"))
	register[v1alpha1.DatastoreVolume](scheme, version.WithKind("DatastoreVolume"))
	register[v1alpha1.DatastoreSnapshot](scheme, version.WithKind("DatastoreSnapshot"))
	metav1.AddToGroupVersion(scheme, version)

	c := rest.CopyConfig(config)
	c.APIPath, c.GroupVersion = "/apis", &version
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.QPS = -1
	if c.UserAgent == "" {
		c.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	return rest.RESTClientFor(c)
}

func register[T any, P object[T]](scheme *runtime.Scheme, kind schema.GroupVersionKind) {
	scheme.AddKnownTypeWithName(kind, P(new(T)))
	scheme.AddKnownTypeWithName(kind.GroupVersion().WithKind(kind.Kind+"List"), &list[T, P]{})
}
