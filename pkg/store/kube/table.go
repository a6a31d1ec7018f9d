package kube

import (
	"context"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/memory"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

// patience is how long the API server may take to answer one request.
const patience = 30 * time.Second

// statusPart is the subresource that the status is written by.
const statusPart = "status"

// table keeps the records of one kind in the API server, and a mirror of them in memory.
type table[T any, P object[T]] struct {
	*memory.Table[T, P]
	mirror   *mirror[T, P]
	kind     record.Kind[T]
	client   rest.Interface
	selector fields.Selector
	// prepare alters each record that is read before anybody sees it; nil is nothing.
	prepare func(*T)
}

func newTable[T any, P object[T]](k record.Kind[T], client rest.Interface, selector fields.Selector, start func(func(context.Context))) *table[T, P] {
	closed := func() error { return fault.New(fault.Unavailable, "the store is closed") }
	t := &table[T, P]{kind: k, client: client, selector: selector, Table: memory.New[T, P](k.Word, closed)}
	t.mirror = &mirror[T, P]{table: t, start: start, synced: make(chan struct{})}
	return t
}

// Get implements store.Table: it asks the API server, which asks the majority of its etcd.
func (t *table[T, P]) Get(ctx context.Context, name string) (*T, error) {
	if err := record.CheckName(name); err != nil {
		return nil, t.Failed(err, "get", name)
	}
	r, err := t.do(ctx, t.client.Get().Name(name))
	return r, t.Failed(err, "get", name)
}

// Create implements store.Table.
func (t *table[T, P]) Create(ctx context.Context, in *T) (*T, error) {
	name := P(in).GetName()
	next := P(in).DeepCopy()
	meta := P(next)
	meta.SetUID("")
	meta.SetResourceVersion("")
	t.bare(meta)
	made, err := t.write(ctx, "create", name, func() *rest.Request {
		return t.client.Post().VersionedParams(&metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}, metav1.ParameterCodec).Body(P(next))
	})
	if err != nil || equality.Semantic.DeepEqual(t.kind.Status(in), t.kind.Status(new(T))) {
		return made, err
	}
	full := P(made).DeepCopy()
	t.kind.SetStatus(full, next)
	return t.UpdateStatus(ctx, full)
}

// Update implements store.Table. Of a record that was altered when it was read, only the finalizers are written: the rest is as
// somebody else wrote it, and stays so.
func (t *table[T, P]) Update(ctx context.Context, in *T) (*T, error) {
	if t.prepare != nil {
		return t.hold(ctx, in)
	}
	return t.put(ctx, "update", in)
}

// hold writes a record's finalizers, if it is still the one that was read.
func (t *table[T, P]) hold(ctx context.Context, in *T) (*T, error) {
	const verb = "write the finalizers of"
	name := P(in).GetName()
	if P(in).GetResourceVersion() == "" {
		return nil, t.Failed(fault.New(fault.Conflict, "it has no version: it was not read before"), verb, name)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": P(in).GetResourceVersion(), "uid": P(in).GetUID(), "finalizers": P(in).GetFinalizers(),
	}})
	if err != nil {
		return nil, t.Failed(err, verb, name)
	}
	return t.write(ctx, verb, name, func() *rest.Request {
		return t.client.Patch(types.MergePatchType).Name(name).Body(patch)
	})
}

// UpdateStatus implements store.Table.
func (t *table[T, P]) UpdateStatus(ctx context.Context, in *T) (*T, error) {
	return t.put(ctx, "update status of", in, statusPart)
}

// put writes a record that was read, or its part.
func (t *table[T, P]) put(ctx context.Context, verb string, in *T, part ...string) (*T, error) {
	name := P(in).GetName()
	next := P(in).DeepCopy()
	t.bare(next)
	if P(next).GetResourceVersion() == "" && record.CheckName(name) == nil {
		// The API server would take it for a mistake in the request.
		if _, err := t.Get(ctx, name); err != nil {
			return nil, err
		}
		return nil, t.Failed(fault.New(fault.Conflict, "it has no version: it was not read before"), verb, name)
	}
	return t.write(ctx, verb, name, func() *rest.Request {
		return t.client.Put().Name(name).SubResource(part...).
			VersionedParams(&metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict}, metav1.ParameterCodec).Body(P(next))
	})
}

// bare takes off what the API server gives out and refuses to have altered, or keeps where nothing is said.
func (t *table[T, P]) bare(meta P) {
	meta.SetNamespace("")
	meta.SetGenerateName("")
	meta.SetSelfLink("")
	meta.SetManagedFields(nil)
	meta.SetCreationTimestamp(metav1.Time{})
	meta.SetDeletionTimestamp(nil)
	meta.SetDeletionGracePeriodSeconds(nil)
	meta.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
}

// Delete implements store.Table.
func (t *table[T, P]) Delete(ctx context.Context, name, uid string) error {
	options := &metav1.DeleteOptions{}
	if uid != "" {
		meant := types.UID(uid)
		options.Preconditions = &metav1.Preconditions{UID: &meant}
	}
	err := t.stepped(ctx, "delete", name, func() error {
		err := t.client.Delete().Resource(t.kind.Resource).Name(name).Timeout(patience).Body(options).Do(ctx).Error()
		return translate(ctx, t.kind.Resource, err)
	})
	return t.Failed(err, "delete", name)
}

// write makes one write, which answers with the record.
func (t *table[T, P]) write(ctx context.Context, verb, name string, request func() *rest.Request) (*T, error) {
	var written *T
	err := t.stepped(ctx, verb, name, func() error {
		var err error
		written, err = t.do(ctx, request())
		return err
	})
	if err != nil {
		return nil, t.Failed(err, verb, name)
	}
	return written, nil
}

// stepped makes a write as a step, where there can be a record of that name at all.
func (t *table[T, P]) stepped(ctx context.Context, verb, name string, write func() error) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return step.Do(ctx, "write "+t.kind.Word+" record "+name+" ("+verb+")", write)
}

// do sends a request and reads the record that is the answer.
func (t *table[T, P]) do(ctx context.Context, r *rest.Request) (*T, error) {
	out := new(T)
	if err := r.Resource(t.kind.Resource).Timeout(patience).Do(ctx).Into(P(out)); err != nil {
		return nil, translate(ctx, t.kind.Resource, err)
	}
	return t.finish(out), nil
}

// finish makes a record that was read, and that nobody else has, fit to be shared.
func (t *table[T, P]) finish(r *T) *T {
	P(r).SetManagedFields(nil)
	P(r).GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if t.prepare != nil {
		t.prepare(r)
	}
	record.Finish(r)
	return r
}
