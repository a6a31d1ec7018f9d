package conformance

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// ends runs a driver that must refuse to start, and checks that it says why.
func ends(t *testing.T, d *harness.Driver, says ...string) {
	t.Helper()
	code, log, err := d.RunToEnd()
	must(t, err)
	if code == 0 {
		t.Errorf("it ended with success; it said:\n%s", log)
	}
	for _, word := range says {
		if !strings.Contains(log, word) {
			t.Errorf("it doesn't say %q; it said:\n%s", word, log)
		}
	}
}

func TestTheSocketIsTheOwnersAndAStaleOneIsReplaced(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		ctx := t.Context()
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
		info, err := os.Stat(d.Socket)
		must(t, err)
		if info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket's mode is %v, want 0600", info.Mode())
		}
		must(t, d.Kill())
		if _, err := os.Stat(d.Socket); err != nil {
			t.Fatalf("a killed driver leaves its socket: %v", err)
		}
		must(t, d.Start(ctx))
		must(t, d.Stop())
		if _, err := os.Stat(d.Socket); !os.IsNotExist(err) {
			t.Errorf("after SIGTERM the socket is still there: %v", err)
		}
		must(t, d.Start(ctx))
	})
}

func TestAnEndpointInUseIsNotTaken(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
		second := harness.NewDriver(t, harness.Options{Host: "host-2"})
		second.Socket = d.Socket
		ends(t, second, d.Socket)
		must(t, d.Ready(withLimit(t, brokenLimit)))
		// A file that is no socket is nobody's to remove.
		third := harness.NewDriver(t, harness.Options{})
		must(t, os.WriteFile(third.Socket, []byte("precious"), 0o600))
		ends(t, third, third.Socket)
		if text, err := os.ReadFile(third.Socket); err != nil || string(text) != "precious" {
			t.Errorf("the file at the endpoint's path now reads %q, %v", text, err)
		}
		// One that somebody else listens on.
		fourth := harness.NewDriver(t, harness.Options{})
		listener, err := net.Listen("unix", fourth.Socket)
		must(t, err)
		ends(t, fourth, fourth.Socket)
		must(t, listener.Close())
	})
}

func TestAStateDirHasOneDriverOfOneHost(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		ctx := t.Context()
		first := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
		v := first.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		second := harness.NewDriver(t, harness.Options{})
		second.StateDir = first.StateDir
		ends(t, second, first.StateDir)
		must(t, v.Attach(ctx))
		must(t, v.Detach(ctx))
		must(t, first.Stop())

		other := harness.NewDriver(t, harness.Options{Host: "host-2"})
		other.StateDir = first.StateDir
		ends(t, other, first.StateDir, "host-1", "host-2")
		cluster := harness.NewDriver(t, harness.Options{ClusterID: "another"})
		cluster.StateDir = first.StateDir
		ends(t, cluster, "cluster-1", "another")
		must(t, first.Start(ctx))
		must(t, harness.Retry(ctx, v.Delete))
	})
}

func TestTheClusterIDIsMadeOnceAndKept(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		ctx := t.Context()
		d := harness.NewDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}, NoClusterID: true})
		must(t, d.Start(ctx))
		v := d.Volume(t, claim("ext4"))
		must(t, harness.Retry(ctx, v.Create))
		must(t, d.Restart(ctx))
		must(t, harness.Retry(ctx, v.Create))
		must(t, harness.Retry(ctx, v.Delete))
	})
}

func TestACommandLineThatCannotBeIsExplained(t *testing.T) {
	t.Parallel()
	dir := harness.Dir(t)
	file := filepath.Join(dir, "datastores.yaml")
	must(t, os.WriteFile(file, nil, 0o600))
	good := map[string]string{
		"--endpoint": "unix://" + filepath.Join(dir, "s"), "--datastores": file, "--state-dir": filepath.Join(dir, "state"), "--host": "host-1",
	}
	for name, c := range map[string]struct{ flag, value, says string }{
		"an endpoint over TCP":           {"--endpoint", "tcp://127.0.0.1:9000", "tcp://127.0.0.1:9000"},
		"an endpoint that is relative":   {"--endpoint", "unix://x.sock", "x.sock"},
		"an endpoint too long":           {"--endpoint", "unix:///" + strings.Repeat("x", 120), "xxxx"},
		"an endpoint without its folder": {"--endpoint", "unix://" + dir + "/no/such/s", "no/such"},
		"no endpoint":                    {"--endpoint", "", "endpoint"},
		"no state dir":                   {"--state-dir", "", "state-dir"},
		"a state dir that is a file":     {"--state-dir", file, file},
		"no host":                        {"--host", "", "host"},
		"a host that can't be":           {"--host", "../x", "../x"},
		"a host too long":                {"--host", strings.Repeat("h", 300), "hhh"},
		"no file of datastores":          {"--datastores", "", "datastores"},
		"a file that isn't there":        {"--datastores", dir + "/none.yaml", "none.yaml"},
		"a cluster ID that can't be":     {"--cluster-id", "a\nb", "cluster"},
		"a limit below zero":             {"--max-volumes-per-node", "-1", "-1"},
		"a limit that is no number":      {"--max-volumes-per-node", "many", "many"},
		"an address that can't be":       {"--metrics-address", "nowhere", "nowhere"},
		"an unknown flag":                {"--turbo", "yes", "turbo"},
	} {
		args := []string{"standalone"}
		for _, flag := range []string{"--endpoint", "--datastores", "--state-dir", "--host"} {
			if value := good[flag]; flag != c.flag {
				args = append(args, flag, value)
			}
		}
		if c.value != "" {
			args = append(args, c.flag, c.value)
		}
		ctx, cancel := context.WithTimeout(t.Context(), harness.StartLimit)
		out, err := exec.CommandContext(ctx, harness.Binary(t), args...).CombinedOutput()
		cancel()
		if err == nil || ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%s: %v, it must end with an error; it said:\n%s", name, err, out)
		}
		if !strings.Contains(string(out), c.says) || strings.Contains(string(out), "panic:") {
			t.Errorf("%s: it doesn't say %q but:\n%s", name, c.says, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), harness.Binary(t), "version").CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Errorf("version: %q, %v", out, err)
	}
}

func TestTheDriverSaysWhatItIsAndCan(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		ctx := t.Context()
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}, MaxVolumesPerNode: 7})
		info, err := d.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
		must(t, err)
		if info.GetName() != "datastore-csi.io" || info.GetVendorVersion() == "" {
			t.Errorf("it says that it is %v", info)
		}
		node, err := d.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		must(t, err)
		if node.GetNodeId() != d.Host || node.GetMaxVolumesPerNode() != 7 || node.GetAccessibleTopology().GetSegments()["datastore-csi.io/host"] != d.Host {
			t.Errorf("the node says %v", node)
		}
		caps, err := d.ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
		must(t, err)
		var types []csi.ControllerServiceCapability_RPC_Type
		for _, c := range caps.GetCapabilities() {
			types = append(types, c.GetRpc().GetType())
		}
		for _, want := range []csi.ControllerServiceCapability_RPC_Type{
			csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			csi.ControllerServiceCapability_RPC_LIST_VOLUMES, csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
			csi.ControllerServiceCapability_RPC_GET_CAPACITY, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
			csi.ControllerServiceCapability_RPC_PUBLISH_READONLY, csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		} {
			if !slices.Contains(types, want) {
				t.Errorf("the controller doesn't offer %v", want)
			}
		}
		v := d.Volume(t, claim("ext4"))
		must(t, harness.Retry(ctx, v.Create))
		if got := v.Answer.GetAccessibleTopology(); len(got) != 1 || got[0].GetSegments()["datastore-csi.io/host"] != d.Host {
			t.Errorf("a volume of one host is accessible from %v", got)
		}
		must(t, v.Delete(ctx))
	})
}

// What a CO passes as secrets is in no log, record or metric, whatever becomes of the call.
func TestSecretsStayInTheRequest(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		ctx := t.Context()
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}, Metrics: true})
		const canary = "hunter2-canary"
		secrets := map[string]string{"password": canary}
		v := d.Volume(t, claim("ext4"))
		request := v.Request()
		request.Secrets = secrets
		_, err := d.CreateVolume(ctx, request)
		must(t, err)
		must(t, v.Create(ctx))
		request.Name, request.Parameters = "refused", in("nowhere")
		_, err = d.CreateVolume(ctx, request)
		seen := []string{outcome(err)}
		_, err = d.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.ID, NodeId: "nobody", VolumeCapability: v.Capability(), Secrets: secrets})
		seen = append(seen, outcome(err))
		must(t, v.Attach(ctx))
		_, err = d.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: v.ID, StagingTargetPath: v.Staging, VolumeCapability: v.Capability(), PublishContext: v.PublishContext, Secrets: secrets,
		})
		must(t, err)
		_, err = d.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: v.ID, StagingTargetPath: v.Staging, TargetPath: "relative", VolumeCapability: v.Capability(), Secrets: secrets,
		})
		seen = append(seen, outcome(err))
		must(t, v.Unstage(ctx))
		must(t, v.Detach(ctx))
		_, err = d.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.ID, Secrets: secrets})
		must(t, err)
		must(t, d.Stop())
		seen = append(seen, d.Log())
		must(t, filepath.WalkDir(d.Dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			seen = append(seen, path+": "+string(text))
			return err
		}))
		for _, text := range seen {
			if strings.Contains(text, canary) {
				t.Errorf("the secret stands in %.200q", text)
			}
		}
		must(t, d.Start(ctx))
	})
}

func outcome(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSIGTERMEndsADriverCleanlyWithVolumesInUse(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(ctx))
		p := b.PID()
		must(t, b.Stop())
		if err := unix.Kill(p, 0); err == nil {
			t.Error("its process is still there")
		}
		must(t, tryWrite(v, v.Target)) // the mount doesn't need the driver
		must(t, b.Start(ctx))
		must(t, v.Down(ctx))
	})
}
