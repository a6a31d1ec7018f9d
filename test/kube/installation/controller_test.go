package installation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

// Whoever names the directory or the disk of a datastore has the hosts. With the controller's token nobody does.
func TestTheControllerHoldsADatastoreAndChangesNothingElseOfIt(t *testing.T) {
	const datastores, one = records + "/datastores", records + "/datastores/held"
	datastore := func(name string) map[string]any {
		return map[string]any{
			"apiVersion": apiVersion("Datastore"), "kind": "Datastore", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"type": "directory", "directory": map[string]any{"path": "/srv/" + name}},
		}
	}
	administrator(t, http.MethodPost, datastores, datastore("held"), nil)
	t.Cleanup(func() {
		if err := plane.Call(context.WithoutCancel(t.Context()), http.MethodDelete, one, nil, nil); err != nil {
			t.Error(err)
		}
	})
	token, err := plane.ServiceAccount(t.Context(), control.Token{Namespace: namespace, ServiceAccount: "datastore-csi-controller"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCaller(token)
	if err != nil {
		t.Fatal(err)
	}
	const says = "the controller holds a datastore by a finalizer"
	elsewhere := patch(one, map[string]any{"spec": map[string]any{"capacity": map[string]any{"reserve": "10%"}}})
	// The policy counts some moments after it was stored; other policies were waited for.
	if err := until(t.Context(), "the policy about the controller", func(ctx context.Context) error { return refused(elsewhere(ctx, c), says) }); err != nil {
		t.Fatal(err)
	}
	runAttempts(t, c, []attempt{
		{"hold it", patch(one, map[string]any{"metadata": map[string]any{"finalizers": []any{"datastore-csi.io/held"}}}), ""},
		{"let it go", patch(one, map[string]any{"metadata": map[string]any{"finalizers": nil}}), ""},
		{"change its spec", elsewhere, says},
		{"make another", request(http.MethodPost, datastores, datastore("other")), byRole},
		{"delete it", request(http.MethodDelete, one, nil), byRole},
	})
}

// refused is nil where an error is a refusal that says so.
func refused(err error, says string) error {
	if err == nil || !strings.Contains(err.Error(), says) {
		return fmt.Errorf("not refused with %q: %w", says, cmp.Or(err, errors.New("it was done")))
	}
	return nil
}
