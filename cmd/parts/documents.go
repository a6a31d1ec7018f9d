package parts

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// ErrEmpty is the error of a file without any document. Datastores that are there are not given up for it: it
// may have been truncated.
var ErrEmpty = errors.New("the file has no document at all; was it truncated?")

// ReadDocuments returns the valid datastores of a file, and all that is wrong with it.
func ReadDocuments(path string) ([]*v1alpha1.Datastore, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // it was only read
	docs, err := v1alpha1.DecodeDatastores(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(docs) == 0 {
		return nil, ErrEmpty
	}
	var good []*v1alpha1.Datastore
	var bad []error
	for _, d := range docs {
		if d.Err == nil {
			good = append(good, d.Datastore)
			continue
		}
		name := ""
		if d.Datastore != nil {
			name = fmt.Sprintf(" (%q)", d.Datastore.Name)
		}
		bad = append(bad, fmt.Errorf("%s, document %d%s: %w", path, d.Number, name, d.Err))
	}
	return good, errors.Join(bad...)
}

// PutDatastore makes a datastore's record, or brings it up to the document.
func PutDatastore(ctx context.Context, t store.Table[v1alpha1.Datastore], d *v1alpha1.Datastore) error {
	_, err := store.Change(ctx, t, d.Name, func(now *v1alpha1.Datastore) error {
		if now.Spec.Type != d.Spec.Type {
			return fault.New(fault.Invalid, "datastore %q is of type %s; it cannot become one of type %s under the same name", d.Name, now.Spec.Type, d.Spec.Type)
		}
		if equality.Semantic.DeepEqual(now.Spec, d.Spec) && equality.Semantic.DeepEqual(now.Labels, d.Labels) {
			return store.Unchanged()
		}
		now.Spec, now.Labels = d.Spec, d.Labels
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		_, err = t.Create(ctx, &v1alpha1.Datastore{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "Datastore"},
			ObjectMeta: metav1.ObjectMeta{Name: d.Name, Labels: d.Labels},
			Spec:       d.Spec,
		})
	}
	return err
}
