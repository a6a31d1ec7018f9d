package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// document is a valid one with lines of its spec added or replaced.
func document(name, path string, spec ...string) string {
	lines := append([]string{
		"apiVersion: datastore-csi.io/v1alpha1", "kind: Datastore", "metadata: {name: " + name + "}",
		"spec:", "  type: directory", "  directory: {path: " + path + "}",
	}, spec...)
	return strings.Join(lines, "\n") + "\n"
}

func decode(t *testing.T, text string) []v1alpha1.Document {
	t.Helper()
	docs, err := v1alpha1.DecodeDatastores(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func TestDecodeTheContractsDocument(t *testing.T) {
	docs := decode(t, `
# A comment alone is no document.
---
apiVersion: datastore-csi.io/v1alpha1
kind: Datastore
metadata: {name: fast, labels: {tier: gold}}
spec:
  type: directory
  directory: {path: /srv/fast, initialize: false}
  hosts: [node-1]
  capacity: {overcommitPercent: 100, reserve: 5%, warnPercent: 80, criticalPercent: 95, maxVolumes: 0}
  volumes: {provisioning: Thin, format: Image, onDelete: Delete}
  allowedNamespaces: []
  state: Active
  maintenance: ""
---
`+document("slow", "/srv/slow")+"---\n")
	if len(docs) != 2 {
		t.Fatalf("%d documents", len(docs))
	}
	for _, d := range docs {
		if d.Err != nil {
			t.Errorf("document %d: %v", d.Number, d.Err)
		}
	}
	if d := docs[0].Datastore; d.Labels["tier"] != "gold" || d.Spec.Directory.Path != "/srv/fast" || *d.Spec.Capacity.WarnPercent != 80 {
		t.Errorf("got %+v", d)
	}
	spec := docs[1].Datastore.Spec
	if *spec.Capacity.OvercommitPercent != 100 || spec.Capacity.Reserve != "5%" || spec.Volumes.Provisioning != v1alpha1.Thin || spec.State != v1alpha1.StateActive {
		t.Errorf("defaults: %+v", spec)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"an unknown field, with its path":  {document("a", "/a", "  capacity: {reserv: 5%}"), `unknown field "spec.capacity.reserv"`},
		"a field of another case":          {document("a", "/a", "  Maintenance: Cordon"), `unknown field "spec.Maintenance"`},
		"a field given twice":              {document("a", "/a", "  type: directory"), "type"},
		"another kind":                     {strings.Replace(document("a", "/a"), "kind: Datastore", "kind: Pod", 1), `"Pod"`},
		"another version":                  {strings.Replace(document("a", "/a"), "v1alpha1", "v9", 1), `datastore-csi.io/v9`},
		"what is no object":                {"- a\n- b\n", "array"},
		"a name that is none":              {document("A_b", "/a"), "metadata.name"},
		"no name":                          {document(`""`, "/a"), "metadata.name"},
		"an unknown type":                  {strings.Replace(document("a", "/a"), "type: directory", "type: tape", 1), `"tape": supported values: "directory"`},
		"a type without its settings":      {strings.Replace(document("a", "/a"), "  directory: {path: /a}\n", "", 1), "spec.directory: Required"},
		"a relative path":                  {document("a", "srv/a"), "must be absolute"},
		"no path":                          {document("a", `""`), "spec.directory.path: Required"},
		"the root":                         {document("a", "/"), "must not be the root"},
		"the root in disguise":             {document("a", "//"), "must not be the root"},
		"a path that goes up":              {document("a", "/srv/../etc"), "without '.', '..'"},
		"a path too long":                  {document("a", "/"+strings.Repeat("x/", 3000)+"y"), "Too long"},
		"NUL in a path":                    {document("a", `"/a\0b"`), "NUL"},
		"a reserve that is none":           {document("a", "/a", "  capacity: {reserve: some}"), `"some" is neither`},
		"a reserve over all":               {document("a", "/a", "  capacity: {reserve: 101%}"), "0% to 100%"},
		"a negative reserve":               {document("a", "/a", "  capacity: {reserve: -1Gi}"), "reserve"},
		"no overcommit at all":             {document("a", "/a", "  capacity: {overcommitPercent: 0}"), "overcommitPercent"},
		"a warning after the critical":     {document("a", "/a", "  capacity: {warnPercent: 96}"), "must not be more than criticalPercent"},
		"a negative number of volumes":     {document("a", "/a", "  capacity: {maxVolumes: -1}"), "maxVolumes"},
		"a maintenance that is not served": {document("a", "/a", "  maintenance: Drain"), `"Drain"`},
		"a state that is none":             {document("a", "/a", "  state: Asleep"), `"Active", "Inactive"`},
		"a format that is not served":      {document("a", "/a", "  volumes: {format: Tar}"), `"Tar"`},
		"a host that is none":              {document("a", "/a", "  hosts: [a/b]"), "spec.hosts[0]"},
		"a namespace that is none":         {document("a", "/a", "  allowedNamespaces: [A]"), "spec.allowedNamespaces[0]"},
		"a machine-id that is none":        {strings.Replace(document("a", "/a"), "{path: /a}", "{path: /a, adoptFrom: ../x}", 1), "adoptFrom"},
		"a label that is none":             {strings.Replace(document("a", "/a"), "{name: a}", "{name: a, labels: {x: 'a b'}}", 1), "metadata.labels[x]"},
		"text that is no YAML":             {"a: [b", "yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			docs := decode(t, c.text)
			if len(docs) != 1 || docs[0].Err == nil || !strings.Contains(docs[0].Err.Error(), c.says) {
				t.Errorf("got %+v, want an error that says %q", docs, c.says)
			}
		})
	}
}

func TestTwoOfOneNameOrPathAreBothWrong(t *testing.T) {
	docs := decode(t, document("a", "/a")+"---\n"+document("a", "/b")+"---\n"+document("c", "/b/")+"---\n"+document("d", "/d"))
	for i, says := range []string{`"a": documents 1 and 2`, `"a": documents 1 and 2`, `"/b": documents 2 and 3`, ""} {
		err := docs[i].Err
		if (err == nil) != (says == "") || (err != nil && !strings.Contains(err.Error(), says)) {
			t.Errorf("document %d: %v, want %q", i+1, err, says)
		}
	}
}

func TestOnePathOnHostsApartIsNoRepetition(t *testing.T) {
	docs := decode(t, document("a", "/a", "  hosts: [h1, h2]")+"---\n"+document("b", "/a", "  hosts: [h3]"))
	if docs[0].Err != nil || docs[1].Err != nil {
		t.Errorf("%v, %v", docs[0].Err, docs[1].Err)
	}
	docs = decode(t, document("a", "/a", "  hosts: [h1, h2]")+"---\n"+document("b", "/a", "  hosts: [h2]"))
	if docs[0].Err == nil || docs[1].Err == nil {
		t.Error("one path on one host is taken twice")
	}
}

func FuzzDecodeDatastores(f *testing.F) {
	f.Add(document("a", "/a"))
	f.Add("---\n---\n#x\n")
	f.Add("apiVersion: datastore-csi.io/v1alpha1\nkind: Datastore\nspec: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := v1alpha1.DecodeDatastores(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, d := range docs {
			if d.Err == nil && (d.Datastore == nil || len(d.Datastore.Validate()) > 0) {
				t.Errorf("document %d of %q passes as valid", d.Number, text)
			}
		}
	})
}
