package chart_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

// What a document shows must work as it stands there.
func TestTheValuesOfTheDocumentMakeWhatTheySay(t *testing.T) {
	document, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```").FindAllSubmatch(document, -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of values", len(blocks))
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(blocks[0][1], &values); err != nil {
		t.Fatal(err)
	}
	names := install(t, render.Options{Values: values}).names()
	for _, want := range []string{"Datastore/fast", "Datastore/bulk", "StorageClass/fast", "StorageClass/bulk"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s among %v", want, names)
		}
	}
}
