// Package render makes the chart's objects as Helm does, with Helm's own code and without a cluster.
package render

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

// Options say for which release and which cluster a chart is rendered. The zero value is an installation with no values.
type Options struct {
	// Values as a user gives them; they are checked against the chart's schema.
	Values map[string]any
	// Release and Namespace. Default: datastore-csi, both.
	Release, Namespace string
	// Service is what manages the objects. Default: Helm.
	Service string
	// Kubernetes is the cluster's version. Default: 1.32.0, the oldest that the chart takes.
	Kubernetes string
	// APIs that the cluster serves beside its own: "snapshot.storage.k8s.io/v1/VolumeSnapshotClass".
	APIs []string
}

// SnapshotAPI is among Options.APIs of a cluster that has the CRDs of the snapshot controller.
const SnapshotAPI = "snapshot.storage.k8s.io/v1/VolumeSnapshotClass"

// Manifest is one object, as text.
type Manifest struct {
	// Source is the file of the chart that it comes from.
	Source string
	Text   string
}

// Rendered is what a chart makes.
type Rendered struct {
	// CRDs are installed before anything else, and neither upgraded nor deleted by Helm.
	CRDs []Manifest
	// Objects of the release, in the order in which Helm installs them.
	Objects []Manifest
	// Hooks are objects that exist for a while only.
	Hooks []*release.Hook
	// Notes are what a user reads at the end.
	Notes string
}

// Chart renders the chart in a folder.
func Chart(dir string, o Options) (*Rendered, error) {
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	values, err := valuesOf(c, o)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	out := &Rendered{}
	for name, text := range files {
		if path.Base(name) == "NOTES.txt" {
			out.Notes = text
			delete(files, name)
		}
	}
	hooks, objects, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("sort the chart's objects: %w", err)
	}
	out.Hooks = hooks
	for _, o := range objects {
		out.Objects = append(out.Objects, Manifest{Source: o.Name, Text: strings.TrimSpace(o.Content) + "\n"})
	}
	for _, crd := range c.CRDObjects() {
		out.CRDs = append(out.CRDs, Manifest{Source: crd.Filename, Text: strings.TrimPrefix(string(crd.File.Data), "---\n")})
	}
	slices.SortFunc(out.CRDs, func(a, b Manifest) int { return cmp.Compare(a.Source, b.Source) })
	return out, nil
}

func valuesOf(c *chart.Chart, o Options) (common.Values, error) {
	version, err := common.ParseKubeVersion(cmp.Or(o.Kubernetes, "1.32.0"))
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes: %w", err)
	}
	name := cmp.Or(o.Release, c.Name())
	values, err := util.ToRenderValues(c, o.Values,
		common.ReleaseOptions{Name: name, Namespace: cmp.Or(o.Namespace, c.Name()), Revision: 1, IsInstall: true},
		&common.Capabilities{KubeVersion: *version, APIVersions: slices.Concat(common.DefaultVersionSet, o.APIs)})
	if err != nil {
		return nil, err
	}
	if o.Service != "" {
		about, err := values.Table("Release")
		if err != nil {
			return nil, err
		}
		about["Service"] = o.Service
	}
	return values, nil
}
