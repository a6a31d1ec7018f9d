package roles_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

const host = "node-1"

// bed is a cluster of one controller and one node.
type bed struct {
	plane                  *control.Plane
	client                 *harness.Client
	controller, node       *role
	kubelet, endpoint      string
	nodeHealth, ctrlHealth string
	nodeArgs               []string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	dir := harness.Dir(t)
	b := &bed{plane: plane(t), kubelet: filepath.Join(dir, "kubelet"), nodeHealth: address(t), ctrlHealth: address(t)}
	sidecars := filepath.Join(dir, "csi.sock")
	b.controller = start(t, "controller", "--kubeconfig", b.plane.Admin, "--endpoint", "unix://"+sidecars,
		"--leader-election-namespace", namespace, "--identity", "c-1", "--health-address", b.ctrlHealth)
	b.nodeArgs = []string{
		"node", "--kubeconfig", b.plane.Admin, "--namespace", namespace, "--node-name", host, "--kubelet-dir", b.kubelet,
		"--state-dir", filepath.Join(dir, "state"), "--mount-dir", filepath.Join(dir, "mounts"), "--health-address", b.nodeHealth,
	}
	b.node = start(t, b.nodeArgs...)
	b.endpoint = b.register(t)
	b.client = &harness.Client{}
	for path, take := range map[string]func(*harness.Client){
		sidecars:   func(c *harness.Client) { b.client.ControllerClient = c.ControllerClient },
		b.endpoint: func(c *harness.Client) { b.client.NodeClient, b.client.IdentityClient = c.NodeClient, c.IdentityClient },
	} {
		c, err := harness.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		take(c)
	}
	ready(t, b.nodeHealth)
	ready(t, b.ctrlHealth)
	return b
}

// register does what the kubelet does with a socket in its folder, and returns the endpoint that it is told.
func (b *bed) register(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(b.kubelet, "plugins_registry", "datastore-csi.io-reg.sock")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	var info *registration.PluginInfo
	eventually(t, "the node can be registered", func() error {
		if _, err := os.Stat(socket); err != nil {
			return err
		}
		info, err = client.GetInfo(t.Context(), &registration.InfoRequest{})
		return err
	})
	if info.GetType() != "CSIPlugin" || info.GetName() != "datastore-csi.io" || len(info.GetSupportedVersions()) != 1 {
		t.Errorf("the kubelet is told %v", info)
	}
	if _, err := client.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Fatal(err)
	}
	return info.GetEndpoint()
}

// datastore makes a datastore on a disk of its own, and waits until it is healthy.
func (b *bed) datastore(t *testing.T, name string) *harness.Disk {
	t.Helper()
	disk := harness.NewDisk(t, "ext4", 2<<30)
	path := filepath.Join(disk.Path, "pool")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	call(t, b.plane, http.MethodPost, records+"datastores", map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": "Datastore", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"type": "directory", "directory": map[string]any{"path": path}},
	}, nil)
	b.until(t, name, string(v1alpha1.Healthy))
	return disk
}

// until waits until a datastore's state, as kubectl shows it, begins so.
func (b *bed) until(t *testing.T, name, state string) {
	t.Helper()
	eventually(t, "datastore "+name+" is "+state, func() error {
		var d v1alpha1.Datastore
		if err := b.plane.Call(t.Context(), http.MethodGet, records+"datastores/"+name, nil, &d); err != nil {
			return err
		}
		if d.Status.Summary == nil || !strings.HasPrefix(d.Status.Summary.State, state) {
			return fmt.Errorf("its status is %+v", d.Status)
		}
		return nil
	})
}

func (b *bed) volume(t *testing.T) *harness.Volume {
	t.Helper()
	v, err := harness.NewVolume(b.client, host, harness.Dir(t), harness.Claim{
		Name: harness.NewName(), Bytes: 64 << 20, Filesystem: "ext4", Parameters: map[string]string{"datastore": "fast"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestRolesServeALife(t *testing.T) {
	b, top := newBed(t), t
	b.datastore(t, "fast")
	v := b.volume(t)
	ctx := t.Context()
	must(t, v.Create(ctx))
	must(t, v.Attach(ctx))
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	data := harness.Data{Seed: "seven", Bytes: 8 << 20}
	file := filepath.Join(v.Target, "data")
	must(t, data.WriteFile(file))

	t.Run("a node that dies and comes back disturbs no mount, and is found again", func(t *testing.T) {
		b.node.kill()
		must(t, data.CheckFile(file))
		b.node = start(top, b.nodeArgs...)
		b.register(t)
		ready(t, b.nodeHealth)
		must(t, data.CheckFile(file))
		must(t, v.Publish(ctx)) // the kubelet repeats
	})
	t.Run("a kubelet that lost its folder finds the node again", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(b.kubelet, "plugins_registry")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the node is not registered", func() error {
			if probe(ctx, b.nodeHealth, "readyz") == nil {
				return errors.New("it says that it is ready")
			}
			return nil
		})
		b.register(t)
		ready(t, b.nodeHealth)
	})
	t.Run("an API server that is away disturbs no mount", func(t *testing.T) {
		must(t, b.plane.StopServer())
		must(t, data.CheckFile(file))
		must(t, v.Unpublish(ctx)) // needs no record
		if err := v.Publish(ctx); status.Code(err) != codes.Unavailable {
			t.Errorf("publish while no record can be read: %v", err)
		}
		if err := probe(ctx, b.nodeHealth, "healthz"); err != nil {
			t.Errorf("the node is not alive: %v", err)
		}
		must(t, b.plane.StartServer(ctx))
		must(t, harness.Retry(ctx, v.Publish), data.CheckFile(file))
	})
	must(t, harness.Retry(ctx, v.Unpublish), harness.Retry(ctx, v.Unstage), harness.Retry(ctx, v.Detach), harness.Retry(ctx, v.Delete))
	var left v1alpha1.DatastoreVolume
	if err := b.plane.Call(ctx, http.MethodGet, records+"datastorevolumes/"+v.ID, nil, &left); err == nil {
		t.Errorf("the record is left: %+v", left)
	}
}

func TestASilentHostIsUnreachable(t *testing.T) {
	b := newBed(t)
	b.datastore(t, "fast")
	v := b.volume(t)
	ctx := t.Context()
	must(t, v.Create(ctx))
	b.node.kill()
	b.until(t, "fast", string(v1alpha1.Unavailable))
	answer, err := b.client.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: v.ID})
	must(t, err)
	if text := answer.String(); !strings.Contains(text, "INACCESSIBLE") || !strings.Contains(text, "has not renewed its lease") {
		t.Errorf("the volume's health is %s", text)
	}
	if err := b.volume(t).Create(ctx); err == nil || !strings.Contains(err.Error(), "has not renewed its lease") {
		t.Errorf("a new volume on it: %v", err)
	}
	b.node = start(t, b.nodeArgs...)
	b.until(t, "fast", string(v1alpha1.Healthy))
	must(t, harness.Retry(ctx, v.Delete))
}

// Nobody's kubectl removes data: what the record stands for stays until the driver itself is asked to delete it.
func TestDeletingTheRecordDeletesNoData(t *testing.T) {
	b := newBed(t)
	disk := b.datastore(t, "fast")
	v := b.volume(t)
	ctx := t.Context()
	must(t, v.Create(ctx))
	images := func() int {
		found, err := filepath.Glob(filepath.Join(disk.Path, "pool", "volumes", "*", "disk.img"))
		must(t, err)
		return len(found)
	}
	call(t, b.plane, http.MethodDelete, records+"datastorevolumes/"+v.ID, nil, nil)
	call(t, b.plane, http.MethodDelete, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/datastorevolumes.datastore-csi.io", nil, nil)
	b.node.kill()
	b.node = start(t, b.nodeArgs...) // at its start an agent looks at everything
	b.register(t)
	ready(t, b.nodeHealth)
	var marked v1alpha1.DatastoreVolume
	call(t, b.plane, http.MethodGet, records+"datastorevolumes/"+v.ID, nil, &marked)
	if marked.DeletionTimestamp == nil || marked.Spec.Deletion != nil || marked.Status.Worker.Phase != v1alpha1.Ready {
		t.Errorf("the record is %+v", marked)
	}
	if n := images(); n != 1 {
		t.Errorf("%d images are there", n)
	}
	must(t, harness.Retry(ctx, v.Delete))
	if n := images(); n != 0 {
		t.Errorf("%d images are there after DeleteVolume", n)
	}
}
