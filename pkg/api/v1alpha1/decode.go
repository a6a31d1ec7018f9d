package v1alpha1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
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
	markRepeated(docs, "metadata.name", func(a, b *Datastore) string {
		if a.Name == b.Name {
			return a.Name
		}
		return ""
	})
	markRepeated(docs, "spec.directory.path", samePath)
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

// samePath returns the path that two datastores share on a host that both have; "" is none.
func samePath(a, b *Datastore) string {
	if a.Spec.Directory == nil || b.Spec.Directory == nil {
		return ""
	}
	path := strings.TrimRight(a.Spec.Directory.Path, "/")
	if path != strings.TrimRight(b.Spec.Directory.Path, "/") {
		return ""
	}
	if len(a.Spec.Hosts) > 0 && len(b.Spec.Hosts) > 0 &&
		!slices.ContainsFunc(a.Spec.Hosts, func(h string) bool { return slices.Contains(b.Spec.Hosts, h) }) {
		return ""
	}
	return path
}

// markRepeated makes every document wrong that shares what a field says with another.
func markRepeated(docs []Document, field string, shared func(a, b *Datastore) string) {
	for i := range docs {
		for j := range i {
			a, b := docs[j].Datastore, docs[i].Datastore
			if a == nil || b == nil {
				continue
			}
			if value := shared(a, b); value != "" {
				err := fmt.Errorf("%s: Duplicate value: %q: documents %d and %d share it", field, value, docs[j].Number, docs[i].Number)
				docs[i].Err, docs[j].Err = errors.Join(docs[i].Err, err), errors.Join(docs[j].Err, err)
			}
		}
	}
}
