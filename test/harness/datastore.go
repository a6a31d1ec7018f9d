package harness

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// Datastore is a document as an administrator writes it. Spec is free, so that a test can write what is
// wrong as well.
type Datastore struct {
	Name   string
	Labels map[string]string
	Spec   Fields
}

// Fields are those of a document, by their names in it.
type Fields map[string]any

// Directory is a datastore of type directory with nothing but its path.
func Directory(name, path string) Datastore {
	return Datastore{Name: name, Spec: Fields{"type": "directory", "directory": Fields{"path": path}}}
}

// With returns the datastore with a field of its spec set, as a path of names says: With("Thick", "volumes",
// "provisioning"). The receiver stays as it is.
func (d Datastore) With(value any, path ...string) Datastore {
	d.Spec = d.Spec.with(value, path)
	return d
}

func (f Fields) with(value any, path []string) Fields {
	out := Fields{}
	for name, field := range f {
		out[name] = field
	}
	if len(path) == 1 {
		out[path[0]] = value
		return out
	}
	inner, _ := out[path[0]].(Fields) // absent: made
	out[path[0]] = inner.with(value, path[1:])
	return out
}

// YAML gives the document.
func (d Datastore) YAML() ([]byte, error) {
	meta := Fields{"name": d.Name}
	if len(d.Labels) > 0 {
		meta["labels"] = d.Labels
	}
	return yaml.Marshal(Fields{
		"apiVersion": "datastore-csi.io/v1alpha1", "kind": "Datastore", "metadata": meta, "spec": d.Spec,
	})
}

// Documents gives a file of datastores.
func Documents(datastores ...Datastore) ([]byte, error) {
	var all [][]byte
	for _, d := range datastores {
		text, err := d.YAML()
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return bytes.Join(all, []byte("---\n")), nil
}

// replaceFile writes a file anew and moves it into place, as careful editors do.
func replaceFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
