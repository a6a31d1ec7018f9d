package installation

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"
)

// What a document shows must work as it stands there.
func TestTheAPIServerTakesWhatTheDocumentApplies(t *testing.T) {
	document, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{"Datastore": records + "/datastores", "PersistentVolumeClaim": "/api/v1/namespaces/default/persistentvolumeclaims"}
	found := regexp.MustCompile(`(?s)<<END\n(.*?)\nEND\n`).FindAllSubmatch(document, -1)
	for _, block := range found {
		text, err := yaml.YAMLToJSONStrict(block[1])
		if err != nil {
			t.Fatalf("%v:\n%s", err, block[1])
		}
		var o object
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		path := paths[o.Kind] + "?dryRun=All&fieldValidation=Strict"
		if err := asAdministrator(t).send(t.Context(), http.MethodPost, path, "application/json", text, nil); err != nil {
			t.Errorf("%s: %v", o.Kind, err)
		}
	}
	if len(found) != 2 {
		t.Errorf("%d objects, want 2", len(found))
	}
}
