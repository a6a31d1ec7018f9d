// Deploy writes the chart's objects into files for kubectl: `make generate` keeps them in deploy/.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

func main() {
	chart := flag.String("chart", "charts/datastore-csi", "folder of the chart")
	out := flag.String("out", "deploy", "folder for the files")
	flag.Parse()
	if err := run(*chart, *out); err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

func run(chart, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	plain, err := manifests(chart, false)
	if err != nil {
		return err
	}
	snapshots, err := manifests(chart, true)
	if err != nil {
		return err
	}
	return write(out, map[string][]render.Manifest{
		"crds.yaml":                         plain.CRDs,
		"datastore-csi.yaml":                plain.Objects,
		"datastore-csi-with-snapshots.yaml": snapshots.Objects,
	})
}

func manifests(chart string, snapshots bool) (*render.Rendered, error) {
	return render.Chart(chart, render.Options{
		Service: "kubectl",
		Values: map[string]any{
			"namespace": map[string]any{"create": true},
			"snapshots": map[string]any{"enabled": snapshots},
		},
	})
}

func write(dir string, files map[string][]render.Manifest) error {
	for name, all := range files {
		var text strings.Builder
		text.WriteString("# Rendered from charts/datastore-csi by `make generate`. Do not edit.\n")
		for _, m := range all {
			fmt.Fprintf(&text, "---\n# Source: %s\n%s", m.Source, m.Text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
