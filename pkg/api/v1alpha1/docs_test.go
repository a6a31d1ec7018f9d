package v1alpha1_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Each document in docs/ and in the README is one that a driver takes.
func TestTheDocumentedDatastoresAreValid(t *testing.T) {
	var types []v1alpha1.DatastoreType
	for _, path := range []string{"docs/datastores.md", "docs/parameters.md", "README.md"} {
		text, err := os.ReadFile("../../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks(string(text)) {
			if !strings.Contains(block, "kind: Datastore\n") {
				continue
			}
			docs, err := v1alpha1.DecodeDatastores(strings.NewReader(block))
			if err != nil || len(docs) == 0 {
				t.Errorf("%s: %v in\n%s", path, err, block)
			}
			for _, d := range docs {
				if d.Err != nil {
					t.Errorf("%s: %v in\n%s", path, d.Err, block)
					continue
				}
				if path == "docs/datastores.md" {
					types = append(types, d.Datastore.Spec.Type)
				}
			}
		}
	}
	for _, want := range []v1alpha1.DatastoreType{v1alpha1.TypeDirectory, v1alpha1.TypePartition, v1alpha1.TypeDisk, v1alpha1.TypeLVM} {
		if !slices.Contains(types, want) {
			t.Errorf("docs/datastores.md has no example of type %s", want)
		}
	}
}

// blocks are the fenced blocks of YAML in a text.
func blocks(text string) []string {
	var out []string
	for _, part := range strings.Split(text, "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		out = append(out, block)
	}
	return out
}
