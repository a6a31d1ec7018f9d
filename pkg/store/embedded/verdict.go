package embedded

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// The rules below are those of the Kubernetes API server for custom resources with a status
// subresource (k8s.io/apiserver: registry/rest/create.go, update.go, delete.go).

// created is the verdict of Create. Of the metadata, what the store gives out is not the caller's.
func (t *table[T, P]) created(old, in *T) (*T, bool, error) {
	if old != nil {
		return nil, false, fault.New(fault.Exists, "a record of that name is there already, with UID %s", P(old).GetUID())
	}
	next := *in
	meta := P(&next)
	meta.SetNamespace("")
	meta.SetGenerateName("")
	meta.SetSelfLink("")
	meta.SetManagedFields(nil)
	meta.SetDeletionTimestamp(nil)
	meta.SetDeletionGracePeriodSeconds(nil)
	meta.SetUID(types.UID(t.db.config.NewUID()))
	meta.SetCreationTimestamp(record.WholeSeconds(t.db.config.Now()))
	meta.SetGeneration(1)
	return &next, false, nil
}

// updated is the verdict of Update.
func (t *table[T, P]) updated(old, in *T) (*T, bool, error) {
	if err := t.same(old, in); err != nil {
		return nil, false, err
	}
	next := *old
	meta, before := P(&next), P(old)
	t.adopt(meta, P(in))
	t.kind.SetSpec(&next, in)
	if before.GetDeletionTimestamp() != nil {
		for _, f := range meta.GetFinalizers() {
			if !slices.Contains(before.GetFinalizers(), f) {
				return nil, false, fault.New(fault.Invalid, "finalizer %q cannot be added: the record is being deleted", f)
			}
		}
		if len(meta.GetFinalizers()) == 0 {
			return &next, true, nil
		}
	}
	if equality.Semantic.DeepEqual(&next, old) {
		return old, false, nil
	}
	if !equality.Semantic.DeepEqual(t.kind.Spec(&next), t.kind.Spec(old)) {
		meta.SetGeneration(before.GetGeneration() + 1)
	}
	return &next, false, nil
}

// statusUpdated is the verdict of UpdateStatus.
func (t *table[T, P]) statusUpdated(old, in *T) (*T, bool, error) {
	if err := t.same(old, in); err != nil {
		return nil, false, err
	}
	if equality.Semantic.DeepEqual(t.kind.Status(in), t.kind.Status(old)) {
		return old, false, nil
	}
	next := *old
	t.kind.SetStatus(&next, in)
	return &next, false, nil
}

// deleted is the verdict of Delete.
func (t *table[T, P]) deleted(old *T, uid string) (*T, bool, error) {
	if old == nil {
		return nil, false, record.NotFound()
	}
	before := P(old)
	if uid != "" && uid != string(before.GetUID()) {
		return nil, false, fault.New(fault.Conflict, "its UID is %s, not %s: it is another record of the same name", before.GetUID(), uid)
	}
	if len(before.GetFinalizers()) == 0 {
		return old, true, nil
	}
	if before.GetDeletionTimestamp() != nil {
		return old, false, nil
	}
	next := *old
	meta, now := P(&next), record.WholeSeconds(t.db.config.Now())
	meta.SetDeletionTimestamp(&now)
	meta.SetDeletionGracePeriodSeconds(new(int64))
	meta.SetGeneration(before.GetGeneration() + 1)
	return &next, false, nil
}

// same fails unless a record that was read is the one that is stored, in the same version.
func (t *table[T, P]) same(old, in *T) error {
	if old == nil {
		return record.NotFound()
	}
	is, was := P(old), P(in)
	switch {
	case was.GetUID() != "" && was.GetUID() != is.GetUID():
		return fault.New(fault.Conflict, "its UID is %s, not %s: it is another record of the same name", is.GetUID(), was.GetUID())
	case was.GetResourceVersion() != is.GetResourceVersion():
		return fault.New(fault.Conflict, "its version is %s, not %q: it was written since it was read", is.GetResourceVersion(), was.GetResourceVersion())
	}
	return nil
}

// adopt takes over the metadata that callers write.
func (t *table[T, P]) adopt(to, from metav1.Object) {
	to.SetLabels(from.GetLabels())
	to.SetAnnotations(from.GetAnnotations())
	to.SetFinalizers(from.GetFinalizers())
	to.SetOwnerReferences(from.GetOwnerReferences())
}
