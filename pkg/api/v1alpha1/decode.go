package v1alpha1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Document is one Datastore document of a file, or why it is none.
//
// +kubebuilder:object:generate=false
type Document struct {
	// Number counts the documents of the file from 1.
	Number int
	// Datastore with defaults set, where it could be decoded at all.
	Datastore *Datastore
	// Err joins everything that is wrong with the document; nil where nothing is.
	Err error
}

// DecodeDatastores reads a file of any number of Datastore documents, in YAML or JSON, strictly: an
// unknown or repeated field is an error with its path. Every document is decoded and validated, and two
// of one name or one path are both wrong, so that an administrator sees all that is to be mended at once.
// The error is about the file as a whole; it is nil where the documents can be told apart.
func DecodeDatastores(r io.Reader) ([]Document, error) {
	var docs []Document
	reader := utilyaml.NewYAMLReader(bufio.NewReader(r))
	for {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the documents: %w", err)
		}
		if empty(raw) {
			continue
		}
		d, err := decodeDatastore(raw)
		docs = append(docs, Document{Number: len(docs) + 1, Datastore: d, Err: err})
	}
	markRepeated(docs, "metadata.name", func(d *Datastore) string { return d.Name })
	markRepeated(docs, "spec.directory.path", func(d *Datastore) string {
		if d.Spec.Directory == nil {
			return ""
		}
		return strings.TrimRight(d.Spec.Directory.Path, "/")
	})
	return docs, nil
}

// empty tells whether a document holds nothing but comments and separators.
func empty(raw []byte) bool {
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func decodeDatastore(raw []byte) (*Datastore, error) {
	asJSON, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, err
	}
	var kind metav1.TypeMeta
	if err := kjson.UnmarshalCaseSensitivePreserveInts(asJSON, &kind); err != nil {
		return nil, err
	}
	if kind.APIVersion != APIVersion || kind.Kind != "Datastore" {
		return nil, fmt.Errorf("apiVersion %q, kind %q: only apiVersion %q, kind \"Datastore\" is read here",
			kind.APIVersion, kind.Kind, APIVersion)
	}
	var d Datastore
	strict, err := kjson.UnmarshalStrict(asJSON, &d)
	if err != nil {
		return nil, err
	}
	d.Status = DatastoreStatus{}
	d.SetDefaults()
	errs := strict
	for _, e := range d.Validate() {
		errs = append(errs, e)
	}
	return &d, errors.Join(errs...)
}

// markRepeated makes every document wrong that shares a key with another.
func markRepeated(docs []Document, field string, key func(*Datastore) string) {
	seen := map[string][]int{}
	for i, d := range docs {
		if d.Datastore == nil {
			continue
		}
		if k := key(d.Datastore); k != "" {
			seen[k] = append(seen[k], i)
		}
	}
	for k, at := range seen {
		if len(at) < 2 {
			continue
		}
		numbers := make([]string, len(at))
		for i, doc := range at {
			numbers[i] = fmt.Sprint(docs[doc].Number)
		}
		for _, doc := range at {
			err := fmt.Errorf("%s: Duplicate value: %q: documents %s share it", field, k, strings.Join(numbers, " and "))
			docs[doc].Err = errors.Join(docs[doc].Err, err)
		}
	}
}
