package installation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

const (
	// deploy is the folder of what is installed, namespace is where to, account is that of the node pods.
	deploy    = "../../../deploy"
	namespace = "datastore-csi"
	account   = "datastore-csi-node"
	// patience with a busy machine.
	patience = 5 * time.Minute
)

// plane is the API server of all tests; everything is installed in it before the first.
var plane *control.Plane

func TestMain(m *testing.M) {
	os.Exit(control.Main(installed{m}, func(p *control.Plane) { plane = p }))
}

// installed are tests that run once the driver is installed.
type installed struct{ tests *testing.M }

func (i installed) Run() int {
	if err := install(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		return 1
	}
	return i.tests.Run()
}

// install does what docs/install.md says, and waits until the policies count.
func install(ctx context.Context) error {
	admin, err := administratorOf()
	if err != nil {
		return err
	}
	if err := apply(ctx, admin, "crds.yaml", ""); err != nil {
		return err
	}
	for _, path := range []string{hosts, volumes, snapshots, records + "/datastores"} {
		if err := untilServed(ctx, admin, path); err != nil {
			return err
		}
	}
	if err := apply(ctx, admin, "datastore-csi.yaml", ""); err != nil {
		return err
	}
	for _, node := range []string{"node-a", "node-b"} {
		if err := makeNode(ctx, node); err != nil {
			return err
		}
	}
	return untilPoliciesCount(ctx)
}

// untilPoliciesCount waits for the API server to have seen the policies: it begins to hold them some moments after they were stored.
func untilPoliciesCount(ctx context.Context) error {
	unbound, err := plane.ServiceAccount(ctx, control.Token{Namespace: namespace, ServiceAccount: account})
	if err != nil {
		return err
	}
	c, err := newCaller(unbound)
	if err != nil {
		return err
	}
	for _, o := range []struct{ path, kind string }{{hosts, "DatastoreHost"}, {leases, "Lease"}} {
		probe := map[string]any{"apiVersion": apiVersion(o.kind), "kind": o.kind, "metadata": map[string]any{"name": "probe"}}
		err := until(ctx, "the policy about kind "+o.kind, func(ctx context.Context) error {
			err := c.call(ctx, http.MethodPost, o.path+"?dryRun=All", probe, nil)
			if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
				return errors.Join(errors.New("no policy refused a probe"), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// untilServed waits for the API server to serve a custom resource whose definition it has.
func untilServed(ctx context.Context, c *caller, path string) error {
	return until(ctx, path, func(ctx context.Context) error { return c.call(ctx, http.MethodGet, path, nil, nil) })
}

// until tries something until it succeeds: what is stored counts some moments later.
func until(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}

// makeNode makes a node and a pod of the driver on it, to which tokens are bound.
func makeNode(ctx context.Context, name string) error {
	if err := plane.Call(ctx, http.MethodPost, "/api/v1/nodes", map[string]any{"metadata": map[string]any{"name": name}}, nil); err != nil {
		return err
	}
	pod := map[string]any{
		"metadata": map[string]any{"name": "agent-of-" + name},
		"spec": map[string]any{
			"nodeName": name, "serviceAccountName": account,
			"containers": []any{map[string]any{"name": "driver", "image": "images.test/none"}},
		},
	}
	return plane.Call(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", pod, nil)
}

// tokenOf gives the token that the pod on a node has.
func tokenOf(ctx context.Context, node string) (string, error) {
	name := "agent-of-" + node
	var pod struct{ Metadata struct{ UID string } }
	if err := plane.Call(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods/"+name, nil, &pod); err != nil {
		return "", err
	}
	request := map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
		"spec": map[string]any{"boundObjectRef": map[string]any{"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod.Metadata.UID}},
	}
	var answer struct{ Status struct{ Token string } }
	err := plane.Call(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", request, &answer)
	return answer.Status.Token, err
}
