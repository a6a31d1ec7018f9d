package cluster

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/cluster/image"
	"github.com/datastore-csi/datastore-csi/test/cluster/node"
)

// sidecars are programs and the modules that they come from, whose versions their images' tags are.
var sidecars = map[string]string{
	"csi-attacher":        "github.com/kubernetes-csi/external-attacher/v4",
	"csi-provisioner":     "github.com/kubernetes-csi/external-provisioner/v6",
	"csi-resizer":         "github.com/kubernetes-csi/external-resizer/v2",
	"csi-snapshotter":     "github.com/kubernetes-csi/external-snapshotter/v8",
	"snapshot-controller": "github.com/kubernetes-csi/external-snapshotter/v8",
}

// busyboxNames are those under which people and Kubernetes' own tests ask for an image with a shell.
var busyboxNames = []string{"docker.io/library/busybox:stable", "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"}

// makeImages writes the images that each node imports, and gives their files.
func (c Config) makeImages(ctx context.Context) ([]string, error) {
	dir := c.path("images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	pause := filepath.Join(dir, "pause")
	if err := buildPause(ctx, pause); err != nil {
		return nil, err
	}
	busybox, err := busyboxImage(ctx)
	if err != nil {
		return nil, err
	}
	images := map[string]image.Image{
		"pause":   {Names: []string{node.SandboxImage}, Files: map[string]string{"/pause": pause}, Entrypoint: []string{"/pause"}, User: "65535"},
		"busybox": busybox,
	}
	if c.Sidecars {
		if err := c.addSidecars(ctx, images); err != nil {
			return nil, err
		}
	}
	var files []string
	for name, i := range images {
		file := filepath.Join(dir, name+".tar")
		if err := i.Write(file); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return append(files, c.Images...), nil
}

// buildPause builds the pause program for containers: static.
func buildPause(ctx context.Context, path string) error {
	_, source, _, known := runtime.Caller(0)
	if !known || !filepath.IsAbs(source) {
		return errors.New("find test/cluster: this program was built with -trimpath")
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/pause")
	cmd.Dir, cmd.Env = filepath.Dir(source), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the pause program: %w: %s", err, out)
	}
	return nil
}

// busyboxImage is Debian's static busybox with a link for each of its tools.
func busyboxImage(ctx context.Context) (image.Image, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return image.Image{}, err
	}
	tools, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return image.Image{}, fmt.Errorf("list the tools of %s: %w", path, err)
	}
	links := map[string]string{}
	for _, tool := range strings.Fields(string(tools)) {
		if tool != "busybox" {
			links["/bin/"+tool] = "busybox"
		}
	}
	return image.Image{Names: busyboxNames, Files: map[string]string{"/bin/busybox": path}, Links: links, Command: []string{"sh"}}, nil
}

// addSidecars adds all images that the driver's chart names, but for the driver's own.
func (c Config) addSidecars(ctx context.Context, images map[string]image.Image) error {
	dir, err := control.Programs(ctx, "sidecars")
	if err != nil {
		return err
	}
	kubectl := filepath.Join(c.Kubernetes, "kubectl")
	version, err := versionOf(kubectl, "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	images["kubectl"] = image.Image{
		Names: []string{"registry.k8s.io/kubectl:" + version}, Files: map[string]string{"/bin/kubectl": kubectl},
		Entrypoint: []string{"/bin/kubectl"}, User: "65532",
	}
	for program, module := range sidecars {
		path := filepath.Join(dir, program)
		version, err := versionOf(path, module)
		if err != nil {
			return err
		}
		images[program] = image.Image{
			Names: []string{"registry.k8s.io/sig-storage/" + program + ":" + version},
			Files: map[string]string{"/" + program: path}, Entrypoint: []string{"/" + program}, User: "65532",
		}
	}
	return nil
}

// versionOf gives the version of a module that a program was built from.
func versionOf(program, module string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	if info.Main.Path != module {
		return "", fmt.Errorf("%s was built from %s, want %s", program, info.Main.Path, module)
	}
	return info.Main.Version, nil
}
