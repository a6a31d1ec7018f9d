package installation

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// A role that is too wide, by an administrator's mistake or a later version's, is no way round the policy.
func TestThePolicyHoldsWhateverTheRoleSays(t *testing.T) {
	scene(t)
	makeHost(t, "node-a")
	widen(t)
	kept(t, volumes+"/a", volumes+"/b", snapshots+"/of-b", hosts+"/node-a", hosts+"/node-b", leases+"/"+leaseOf("node-b"))
	const says = "an agent makes the record of its host and writes the status of records, and nothing else"
	asA(t, []attempt{
		{"delete data", patch(volumes+"/b", map[string]any{"spec": map[string]any{"deletion": map[string]any{"policy": "Delete", "requestedAt": "2026-01-01T00:00:00Z"}}}), says},
		{"detach", patch(volumes+"/b", map[string]any{"spec": map[string]any{"attachments": nil}}), says},
		{"take a finalizer off its own volume", patch(volumes+"/a", map[string]any{"metadata": map[string]any{"finalizers": nil}}), says},
		{"delete a record", request(http.MethodDelete, volumes+"/b", nil), says},
		{"delete all records", request(http.MethodDelete, volumes, nil), says},
		{"delete a snapshot", request(http.MethodDelete, snapshots+"/of-b", nil), says},
		{"delete a host", request(http.MethodDelete, hosts+"/node-b", nil), says},
		{"delete its own host", request(http.MethodDelete, hosts+"/node-a", nil), says},
		{"make a datastore", request(http.MethodPost, records+"/datastores", map[string]any{
			"apiVersion": apiVersion("Datastore"), "kind": "Datastore", "metadata": map[string]any{"name": "root"},
			"spec": map[string]any{"type": "directory", "directory": map[string]any{"path": "/etc/here", "initialize": true}},
		}), says},
		{"delete a lease", request(http.MethodDelete, leases+"/"+leaseOf("node-b"), nil), "the lease of that host only"},
	})
}

// widen gives the node pods every right on records and leases, for one test.
func widen(t *testing.T) {
	t.Helper()
	const roles, bindings = "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
	administrator(t, http.MethodPost, roles, map[string]any{
		"metadata": map[string]any{"name": "wide"},
		"rules":    []any{map[string]any{"apiGroups": []any{"datastore-csi.io", "coordination.k8s.io"}, "resources": []any{"*"}, "verbs": []any{"*"}}},
	}, nil)
	administrator(t, http.MethodPost, bindings, map[string]any{
		"metadata": map[string]any{"name": "wide"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wide"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": account, "namespace": namespace}},
	}, nil)
	t.Cleanup(func() {
		for _, path := range []string{bindings, roles} {
			if err := plane.Call(context.WithoutCancel(t.Context()), http.MethodDelete, path+"/wide", nil, nil); err != nil {
				t.Error(err)
			}
		}
		c := callerOn(t, "node-a")
		err := until(context.WithoutCancel(t.Context()), "the wide role to count no more", func(ctx context.Context) error { return allowed(ctx, c, false) })
		if err != nil {
			t.Error(err)
		}
	})
	c := callerOn(t, "node-a")
	if err := until(t.Context(), "the wide role to count", func(ctx context.Context) error { return allowed(ctx, c, true) }); err != nil {
		t.Fatal(err)
	}
}

// allowed is an error where a caller's role doesn't let it delete records, or does though it must not.
func allowed(ctx context.Context, c *caller, want bool) error {
	var answer struct{ Status struct{ Allowed bool } }
	err := c.call(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{"group": "datastore-csi.io", "resource": "datastorevolumes", "verb": "delete"}},
	}, &answer)
	if err == nil && answer.Status.Allowed != want {
		err = errors.New("not yet")
	}
	return err
}

// A field of the status that a later version brings is nobody's until the policy says whose it is.
func TestAFieldThatIsYetToComeIsNoAgents(t *testing.T) {
	scene(t)
	withField(t, "future")
	kept(t, volumes+"/a")
	asA(t, []attempt{
		{"write it, of its own volume", status(volumes+"/a", func(s map[string]any) { s["future"] = "x" }), "and nothing else"},
	})
}

// withField adds a text field to the status of volumes, for one test.
func withField(t *testing.T, name string) {
	t.Helper()
	const path = definitions + "/datastorevolumes.datastore-csi.io"
	admin := asAdministrator(t)
	alter := func(ctx context.Context, alter func(properties map[string]any)) error {
		return admin.change(ctx, path, func(o map[string]any) {
			versions, _ := at(o, "spec")["versions"].([]any)
			version, ok := versions[0].(map[string]any)
			if !ok {
				t.Fatalf("versions of the CRD: %v", versions)
			}
			alter(at(version, "schema", "openAPIV3Schema", "properties", "status", "properties"))
		})
	}
	if err := alter(t.Context(), func(p map[string]any) { p[name] = map[string]any{"type": "string"} }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := alter(context.WithoutCancel(t.Context()), func(p map[string]any) { delete(p, name) }); err != nil {
			t.Error(err)
		}
	})
	err := until(t.Context(), "the field to be known", func(ctx context.Context) error {
		err := admin.change(ctx, volumes+"/a/status?dryRun=All&fieldValidation=Strict", func(o map[string]any) { at(o, "status")[name] = "x" })
		if err != nil && !strings.Contains(err.Error(), "unknown field") {
			t.Fatal(err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
