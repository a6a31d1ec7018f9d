package e2e_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/cluster"
	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

const (
	namespace = "datastore-csi"
	chart     = "../../charts/datastore-csi"
	images    = "../../bin/image"
	// clusterDir holds the cluster of the tests, unless keepVariable names another.
	clusterDir = "../../bin/e2e"
	// keepVariable names the folder of a cluster that is not ended after the tests, and is used where it runs already.
	keepVariable = "TEST_E2E_CLUSTER"
	// pool is where each node has a file system of its own for the datastore "fast".
	pool = "/srv/fast"
	// poolBytes is its size, as truncate(1) takes it. It lies in a sparse file.
	poolBytes = "20G"
)

// env is the cluster that all tests share.
var env struct {
	cluster.Config
	tool, kubectl, helm string
}

// nodes are those on this machine's kernel. Another one has a kernel of its own: see machine.
var nodes = []string{"node1", "node2"}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	began := time.Now()
	keep := os.Getenv(keepVariable)
	if err := start(ctx, keep); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		if env.Dir != "" && keep == "" {
			fmt.Fprintln(os.Stderr, "the end:", errors.Join(collect(ctx), cluster.Down(env.Dir, true)))
		}
		return 1
	}
	fmt.Printf("the cluster runs, and the driver is installed, after %s\n", time.Since(began).Round(time.Second))
	code := m.Run()
	if code != 0 {
		if err := collect(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "collect the logs:", err)
		}
	}
	if keep != "" {
		return code
	}
	if err := cluster.Down(env.Dir, false); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}

// start starts the cluster and installs the driver as its documents say.
func start(ctx context.Context, keep string) error {
	programs, err := control.Programs(ctx, "kubernetes", "kubectl")
	if err != nil {
		return err
	}
	helm, err := control.Programs(ctx, "helm")
	if err != nil {
		return err
	}
	dir := clusterDir
	if keep != "" {
		dir = keep
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	env.kubectl, env.helm = filepath.Join(programs, "kubectl"), filepath.Join(helm, "helm")
	env.tool = dir + "-tool"
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", env.tool, "../cluster/cmd/cluster").CombinedOutput(); err != nil {
		return fmt.Errorf("build the cluster's program: %w: %s", err, out)
	}
	env.Config = cluster.Config{Dir: dir, Name: filepath.Base(dir), Nodes: len(nodes), Machines: 1, Sidecars: true}
	tags := map[string]string{}
	for _, name := range []string{"node", "controller"} {
		file, err := filepath.Abs(filepath.Join(images, name+".tar"))
		if err != nil {
			return err
		}
		if tags[name], err = tag(file); err != nil {
			return fmt.Errorf("%w; `make image` makes it", err)
		}
		env.Images = append(env.Images, file)
	}
	switch err := cluster.Up(ctx, env.Config, env.tool); {
	case errors.Is(err, cluster.ErrRunning) && keep != "":
		return nil
	case err != nil:
		return err
	}
	return install(ctx, tags)
}

// tag gives the version that an image in a file has.
func tag(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for archive := tar.NewReader(f); ; {
		header, err := archive.Next()
		if err != nil {
			return "", fmt.Errorf("read the manifest of %s: %w", file, err)
		}
		if header.Name != "manifest.json" {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return "", err
		}
		var manifest []struct{ RepoTags []string }
		if err := json.Unmarshal(text, &manifest); err != nil || len(manifest) != 1 || len(manifest[0].RepoTags) != 1 {
			return "", fmt.Errorf("the manifest of %s is %s (%w)", file, text, err)
		}
		_, version, _ := strings.Cut(filepath.Base(manifest[0].RepoTags[0]), ":")
		return version, nil
	}
}

// install makes disks for the nodes, then what docs/install.md says: the snapshot controller, which is the cluster's own, and the
// chart.
func install(ctx context.Context, tags map[string]string) error {
	for _, node := range nodes {
		if _, err := in(ctx, node, "sh", "-ec", makePool); err != nil {
			return err
		}
	}
	if err := installSnapshots(ctx); err != nil {
		return err
	}
	_, err := execute(ctx, "", env.helm, "--kubeconfig", env.Kubeconfig(), "install", "datastore-csi", chart,
		"--namespace", namespace, "--create-namespace", "--wait", "--timeout", "10m", "--values", "values.yaml",
		"--set", "images.node.tag="+tags["node"], "--set", "images.controller.tag="+tags["controller"])
	if err != nil {
		return err
	}
	_, err = kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=2m", "datastore/fast")
	return err
}

// makePool makes a file system on a file of the node's.
const makePool = "truncate -s " + poolBytes + " /srv/disk.img; mkfs.xfs -q /srv/disk.img; mkdir " + pool + "; mount -o loop /srv/disk.img " + pool

// installSnapshots installs the snapshot controller and its CRDs from the files of its release.
func installSnapshots(ctx context.Context) error {
	const release = "github.com/kubernetes-csi/external-snapshotter/"
	var dirs [2]string
	for i, module := range []string{release + "client/v8", release + "v8"} {
		cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
		cmd.Dir = "../cluster/programs/sidecars"
		out, err := cmd.Output()
		if dirs[i] = strings.TrimSpace(string(out)); err != nil || dirs[i] == "" {
			return fmt.Errorf("find the files of %s: %w", module, err)
		}
	}
	for _, kind := range []string{"volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"} {
		if _, err := kubectl(ctx, "", "apply", "-f", filepath.Join(dirs[0], "config/crd/snapshot.storage.k8s.io_"+kind+".yaml")); err != nil {
			return err
		}
	}
	from := filepath.Join(dirs[1], "deploy/kubernetes/snapshot-controller")
	if _, err := kubectl(ctx, "", "apply", "-f", filepath.Join(from, "rbac-snapshot-controller.yaml")); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(from, "setup-snapshot-controller.yaml"))
	if err != nil {
		return err
	}
	// The release's file still names the version before it.
	version := strings.TrimPrefix(filepath.Base(dirs[1]), "v8@")
	deployment := snapshotImage.ReplaceAllString(string(text), "snapshot-controller:"+version)
	_, err = kubectl(ctx, deployment, "apply", "-f", "-")
	return err
}

// collect keeps what a failure is found by.
func collect(ctx context.Context) error {
	dir, err := filepath.Abs("../../bin/log/e2e")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, args := range map[string][]string{
		"events":     {"get", "events", "-A", "--sort-by=.lastTimestamp"},
		"objects":    {"get", "pods,pvc,pv,volumeattachments,volumesnapshots,volumesnapshotcontents,csistoragecapacities,nodes", "-A", "-o", "wide"},
		"pods":       {"describe", "pods", "-A"},
		"records":    {"get", "datastores,datastorehosts,datastorevolumes,datastoresnapshots", "-o", "yaml"},
		"controller": {"logs", "-n", namespace, "-l", "app.kubernetes.io/component=controller", "--all-containers", "--prefix", "--tail=-1"},
		"node":       {"logs", "-n", namespace, "-l", "app.kubernetes.io/component=node", "--prefix", "--tail=-1"},
	} {
		out, err := kubectl(ctx, "", args...)
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644))
	}
	fmt.Fprintln(os.Stderr, "logs are in", dir)
	return errors.Join(errs...)
}
