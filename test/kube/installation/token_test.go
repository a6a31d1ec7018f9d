package installation

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

func decoded(v any) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(text, &out)
}

// leaseOf is the heartbeat of a host.
func leaseOf(host string) string { return "datastore-csi-host-" + host }

func lease(name string) map[string]any {
	return map[string]any{
		"apiVersion": apiVersion("Lease"), "kind": "Lease", "metadata": map[string]any{"name": name}, "spec": map[string]any{"holderIdentity": "somebody"},
	}
}

func host(name string) map[string]any {
	return map[string]any{"apiVersion": apiVersion("DatastoreHost"), "kind": "DatastoreHost", "metadata": map[string]any{"name": name}}
}

// attempt is something that somebody tries with a token.
type attempt struct {
	name string
	try  func(ctx context.Context, c *caller) error
	// says is a part of the refusal; "" where it must succeed.
	says string
}

const (
	byRole    = "403: " // of a role: it names the user and what it may not
	notWorker = "is written by its worker"
	notOwn    = "writes its own only"
)

// asA runs attempts with the token of the pod on node-a, where volumes a and shared lie, and b and shared are attached to node-b.
func asA(t *testing.T, attempts []attempt) {
	t.Helper()
	runAttempts(t, callerOn(t, "node-a"), attempts)
}

// callerOn has the token of the pod on a node.
func callerOn(t *testing.T, node string) *caller {
	t.Helper()
	token, err := tokenOf(context.WithoutCancel(t.Context()), node)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCaller(token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func runAttempts(t *testing.T, c *caller, attempts []attempt) {
	t.Helper()
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			err := a.try(t.Context(), c)
			switch {
			case a.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case a.says != "" && err == nil:
				t.Error("it was done")
			case a.says != "" && !strings.Contains(err.Error(), a.says):
				t.Errorf("got %v, want a refusal that says %q", err, a.says)
			}
		})
	}
}

// status alters an object's status.
func status(path string, alter func(status map[string]any)) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error {
		return c.change(ctx, path+"/status", func(o map[string]any) { alter(at(o, "status")) })
	}
}

// patch sends a merge patch.
func patch(path string, body map[string]any) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error { return c.call(ctx, http.MethodPatch, path, body, nil) }
}

func request(method, path string, body map[string]any) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error {
		if body == nil {
			return c.call(ctx, method, path, nil, nil)
		}
		return c.call(ctx, method, path, body, nil)
	}
}

func setPhase(phase string) func(map[string]any) {
	return func(s map[string]any) { at(s, "worker")["phase"] = phase }
}

func use(host, boot string) func(map[string]any) {
	return func(s map[string]any) { at(s, "nodes")[host] = map[string]any{"bootID": boot} }
}

func leave(host string) func(map[string]any) {
	return func(s map[string]any) { delete(at(s, "nodes"), host) }
}

func scene(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { sweep(t) })
	makeVolume(t, "a", "node-a", "node-a")
	makeVolume(t, "b", "node-b", "node-b")
	makeVolume(t, "shared", "node-a", "node-a", "node-b")
	makeSnapshot(t, "of-a", "node-a")
	makeSnapshot(t, "of-b", "node-b")
	makeHost(t, "node-b")
	administrator(t, http.MethodPost, leases, lease(leaseOf("node-b")), nil)
	administrator(t, http.MethodPost, leases, lease("datastore-csi-controller"), nil)
}

// sweep removes what a scene made, finalizers first.
func sweep(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, path := range []string{volumes, snapshots, hosts, leases} {
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
			}
		}
		if err := plane.Call(ctx, http.MethodGet, path, nil, &list); err != nil {
			t.Error(err)
		}
		for _, item := range list.Items {
			if err := free(ctx, path+"/"+item.Metadata.Name); err != nil {
				t.Error(err)
			}
		}
	}
}

func free(ctx context.Context, path string) error {
	var object map[string]any
	if err := plane.Call(ctx, http.MethodGet, path, nil, &object); err != nil {
		return err
	}
	delete(at(object, "metadata"), "finalizers")
	if err := plane.Call(ctx, http.MethodPut, path, object, nil); err != nil {
		return err
	}
	return plane.Call(ctx, http.MethodDelete, path, nil, nil)
}

func TestAnAgentDoesItsWork(t *testing.T) {
	scene(t)
	asA(t, []attempt{
		{"makes its host's record", request(http.MethodPost, hosts, host("node-a")), ""},
		{"writes its host's status", status(hosts+"/node-a", func(s map[string]any) { s["bootID"], s["poolCount"] = "boot 2", 0 }), ""},
		{"reads all records", request(http.MethodGet, volumes, nil), ""},
		{"reports a volume that lies on its host", status(volumes+"/a", setPhase("Deleted")), ""},
		{"reports a snapshot that lies on its host", status(snapshots+"/of-a", setPhase("Deleted")), ""},
		{"lets go of a volume", status(volumes+"/shared", leave("node-a")), ""},
		{"uses a volume that is attached to it", status(volumes+"/shared", use("node-a", "boot 2")), ""},
		{"says that it booted since", status(volumes+"/shared", use("node-a", "boot 3")), ""},
		{"writes nothing new", status(volumes+"/b", func(map[string]any) {}), ""},
		{"makes its lease", request(http.MethodPost, leases, lease(leaseOf("node-a"))), ""},
		{"renews its lease", func(ctx context.Context, c *caller) error {
			return c.change(ctx, leases+"/"+leaseOf("node-a"), func(o map[string]any) { at(o, "spec")["leaseTransitions"] = 1 })
		}, ""},
		{"tells of an event", request(http.MethodPost, "/api/v1/namespaces/default/events", map[string]any{
			"metadata": map[string]any{"generateName": "test-"}, "type": "Normal", "reason": "Test",
			"involvedObject": map[string]any{"kind": "DatastoreVolume", "apiVersion": apiVersion("DatastoreVolume"), "name": "a"},
		}), ""},
	})
}

// kept fails the test where an object is another at its end, but for the API server's own books about who wrote it.
func kept(t *testing.T, paths ...string) {
	t.Helper()
	now := func(path string) map[string]any {
		var object map[string]any
		if err := plane.Call(context.WithoutCancel(t.Context()), http.MethodGet, path, nil, &object); err != nil {
			t.Fatal(err)
		}
		delete(at(object, "metadata"), "managedFields")
		delete(at(object, "metadata"), "resourceVersion")
		return object
	}
	before := map[string]map[string]any{}
	for _, path := range paths {
		before[path] = now(path)
	}
	t.Cleanup(func() {
		for _, path := range paths {
			if object := now(path); !reflect.DeepEqual(object, before[path]) {
				t.Errorf("%s was\n%v\nand is\n%v", path, before[path], object)
			}
		}
	})
}

func TestWithTheTokenOfNodeANothingOfNodeBIsChanged(t *testing.T) {
	scene(t)
	kept(t, volumes+"/b", snapshots+"/of-b", hosts+"/node-b", leases+"/"+leaseOf("node-b"), leases+"/datastore-csi-controller", volumes+"/shared")
	asA(t, []attempt{
		{"say that a volume is gone", status(volumes+"/b", setPhase("Deleted")), notWorker},
		{"say it by a patch", patch(volumes+"/b/status", map[string]any{"status": map[string]any{"worker": map[string]any{"phase": "Deleted"}}}), notWorker},
		{"say it by server-side apply", func(ctx context.Context, c *caller) error {
			return c.send(ctx, http.MethodPatch, volumes+"/b/status?fieldManager=thief&force=true", "application/apply-patch+yaml", map[string]any{
				"apiVersion": apiVersion("DatastoreVolume"), "kind": "DatastoreVolume", "metadata": map[string]any{"name": "b"},
				"status": map[string]any{"worker": map[string]any{"phase": "Deleted"}},
			}, nil)
		}, notWorker},
		{"take the worker's part away", status(volumes+"/b", func(s map[string]any) { delete(s, "worker") }), notWorker},
		{"take the whole status away", status(volumes+"/b", func(s map[string]any) { delete(s, "worker"); delete(s, "nodes") }), notWorker},
		{"say that the other host let go", status(volumes+"/b", leave("node-b")), notOwn},
		{"say that of a volume that it serves itself", status(volumes+"/shared", leave("node-b")), notOwn},
		{"say that the other host reached something else", status(volumes+"/shared", use("node-b", "boot 2")), notOwn},
		{"say that a third host uses a volume", status(volumes+"/shared", use("node-c", "boot")), notOwn},
		{"use a volume that isn't attached to it", status(volumes+"/b", use("node-a", "boot")), "not attached to host node-a"},
		{"say that a snapshot is gone", status(snapshots+"/of-b", setPhase("Deleted")), notWorker},
		{"write another host's status", status(hosts+"/node-b", func(s map[string]any) { s["bootID"] = "boot 2" }), "the record of that host only"},
		{"make another host", request(http.MethodPost, hosts, host("node-c")), "the record of that host only"},
		{"renew another host's lease", func(ctx context.Context, c *caller) error {
			return c.change(ctx, leases+"/"+leaseOf("node-b"), func(o map[string]any) { at(o, "spec")["holderIdentity"] = "node-a" })
		}, "the lease of that host only"},
		{"make a lease for a third host", request(http.MethodPost, leases, lease(leaseOf("node-c"))), "the lease of that host only"},
		{"become the controllers' leader", func(ctx context.Context, c *caller) error {
			return c.change(ctx, leases+"/datastore-csi-controller", func(o map[string]any) { at(o, "spec")["holderIdentity"] = "node-a" })
		}, "the lease of that host only"},
	})
}

// What follows is refused whosever volume it is: the controller writes specs, and Kubernetes' own objects are none of an agent's business.
func TestWithTheTokenOfANodeNothingIsAttachedDetachedOrDeleted(t *testing.T) {
	scene(t)
	kept(t, volumes+"/a", volumes+"/b", snapshots+"/of-b")
	var attempts []attempt
	for _, v := range []string{"a", "b"} {
		attempts = append(attempts,
			attempt{"delete the data of " + v, patch(volumes+"/"+v, map[string]any{"spec": map[string]any{"deletion": map[string]any{"policy": "Delete", "requestedAt": "2026-01-01T00:00:00Z"}}}), byRole},
			attempt{"detach " + v, patch(volumes+"/"+v, map[string]any{"spec": map[string]any{"attachments": nil}}), byRole},
			attempt{"attach " + v, patch(volumes+"/"+v, map[string]any{"spec": map[string]any{"attachments": map[string]any{"node-a": map[string]any{"access": "SINGLE_NODE_WRITER", "generation": 1}}}}), byRole},
			attempt{"become the worker of " + v, patch(volumes+"/"+v, map[string]any{"spec": map[string]any{"worker": map[string]any{"host": "node-a"}}}), byRole},
			attempt{"take the finalizer off " + v, patch(volumes+"/"+v, map[string]any{"metadata": map[string]any{"finalizers": nil}}), byRole},
			attempt{"take it off through the status of " + v, func(ctx context.Context, c *caller) error {
				// The API server takes nothing but the status there: it is done, and changes nothing.
				return patch(volumes+"/"+v+"/status", map[string]any{"metadata": map[string]any{"finalizers": nil, "labels": map[string]any{"a": "b"}}, "spec": map[string]any{"size": "1Ti"}})(ctx, c)
			}, ""},
			attempt{"delete the record of " + v, request(http.MethodDelete, volumes+"/"+v, nil), byRole},
		)
	}
	attempts = append(attempts,
		attempt{"delete all records", request(http.MethodDelete, volumes, nil), byRole},
		attempt{"make a record", request(http.MethodPost, volumes, map[string]any{
			"apiVersion": apiVersion("DatastoreVolume"), "kind": "DatastoreVolume", "metadata": map[string]any{"name": "c"},
		}), byRole},
		attempt{"delete a snapshot", request(http.MethodDelete, snapshots+"/of-b", nil), byRole},
		attempt{"make a datastore", request(http.MethodPost, records+"/datastores", map[string]any{
			"apiVersion": apiVersion("Datastore"), "kind": "Datastore", "metadata": map[string]any{"name": "root"},
			"spec": map[string]any{"type": "directory", "directory": map[string]any{"path": "/etc", "initialize": true}},
		}), byRole},
		attempt{"delete a lease", request(http.MethodDelete, leases+"/"+leaseOf("node-b"), nil), byRole},
	)
	asA(t, attempts)
}

func TestWithTheTokenOfANodeTheClusterIsOutOfReach(t *testing.T) {
	const policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/agents.datastore-csi.io"
	pod := map[string]any{"metadata": map[string]any{"name": "thief"}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i"}}}}
	asA(t, []attempt{
		{"read secrets", request(http.MethodGet, "/api/v1/secrets", nil), byRole},
		{"read secrets of its namespace", request(http.MethodGet, "/api/v1/namespaces/"+namespace+"/secrets", nil), byRole},
		{"read one secret", request(http.MethodGet, "/api/v1/namespaces/kube-system/secrets/any", nil), byRole},
		{"get the controller's token", request(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/datastore-csi-controller/token", map[string]any{}), byRole},
		{"get a token bound to node B", request(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", map[string]any{}), byRole},
		{"run a pod", request(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", pod), byRole},
		{"run something in a pod", request(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods/agent-of-node-b/exec?command=sh", nil), byRole},
		{"delete node B", request(http.MethodDelete, "/api/v1/nodes/node-b", nil), byRole},
		{"delete an attachment", request(http.MethodDelete, "/apis/storage.k8s.io/v1/volumeattachments/any", nil), byRole},
		{"delete a volume of Kubernetes'", request(http.MethodDelete, "/api/v1/persistentvolumes/any", nil), byRole},
		{"take the policy away", request(http.MethodDelete, policies, nil), byRole},
		{"widen its role", patch("/apis/rbac.authorization.k8s.io/v1/clusterroles/datastore-csi-node", map[string]any{"rules": []any{}}), byRole},
		{"change a CRD", patch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/datastores.datastore-csi.io", map[string]any{"spec": nil}), byRole},
	})
}

func TestATokenThatIsBoundToNoNodeWritesNothing(t *testing.T) {
	scene(t)
	kept(t, volumes+"/a", hosts+"/node-b")
	token, err := plane.ServiceAccount(t.Context(), control.Token{Namespace: namespace, ServiceAccount: account})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCaller(token)
	if err != nil {
		t.Fatal(err)
	}
	const says = "speaks for no host"
	runAttempts(t, c, []attempt{
		{"reads", request(http.MethodGet, volumes, nil), ""},
		{"makes a host", request(http.MethodPost, hosts, host("node-c")), says},
		{"makes a host without a name", request(http.MethodPost, hosts, map[string]any{
			"apiVersion": apiVersion("DatastoreHost"), "kind": "DatastoreHost", "metadata": map[string]any{"generateName": "node-"},
		}), says},
		{"reports a volume", status(volumes+"/a", setPhase("Deleted")), says},
		{"makes a lease", request(http.MethodPost, leases, lease(leaseOf("node-a"))), "the lease of that host only"},
	})
}

// An agent outside of the cluster has a certificate in the place of a token.
func TestAStorageHostOutsideOfTheCluster(t *testing.T) {
	scene(t)
	makeVolume(t, "outside", "storage-1")
	kept(t, volumes+"/b", hosts+"/node-b")
	as := func(name string) *caller {
		c, err := withCertificate(name, "datastore-csi.io:agents")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	runAttempts(t, as("datastore-csi.io:agent:storage-1"), []attempt{
		{"makes its host's record", request(http.MethodPost, hosts, host("storage-1")), ""},
		{"reports a volume that lies on its host", status(volumes+"/outside", setPhase("Deleted")), ""},
		{"makes its lease", request(http.MethodPost, leases, lease(leaseOf("storage-1"))), ""},
		{"reports a volume of another", status(volumes+"/b", setPhase("Deleted")), notWorker},
		{"writes another host's status", status(hosts+"/node-b", func(s map[string]any) { s["bootID"] = "boot 2" }), "the record of that host only"},
		{"deletes data", patch(volumes+"/outside", map[string]any{"spec": map[string]any{"deletion": map[string]any{"policy": "Delete"}}}), byRole},
		{"reads secrets", request(http.MethodGet, "/api/v1/secrets", nil), byRole},
	})
	runAttempts(t, as("somebody"), []attempt{
		{"one whose name says no host makes one", request(http.MethodPost, hosts, host("somebody")), "speaks for no host"},
		{"one whose name says no host reports a volume", status(volumes+"/outside", setPhase("Ready")), "speaks for no host"},
	})
}
