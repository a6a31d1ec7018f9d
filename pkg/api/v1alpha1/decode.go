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
	for _, t := range []DatastoreType{TypeDirectory, TypePartition, TypeDisk, TypeLVM} {
		markRepeated(docs, placeField(t), func(a, b *Datastore) string { return samePlace(a, b, t) })
	}
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

// placeField is the field that names what a datastore of a type lies on.
func placeField(t DatastoreType) string {
	return "spec." + map[DatastoreType]string{
		TypeDirectory: "directory.path", TypePartition: "partition.device", TypeDisk: "disk.devices", TypeLVM: "lvm",
	}[t]
}

// places are what its settings of a type name that a datastore lies on. Two datastores of one host can't have the
// same; which other names are of the same thing, the host finds.
func (s *DatastoreSpec) places(t DatastoreType) []string {
	switch {
	case t == TypeDirectory && s.Directory != nil:
		return []string{strings.TrimRight(s.Directory.Path, "/")}
	case t == TypePartition && s.Partition != nil:
		return []string{s.Partition.Device}
	case t == TypeDisk && s.Disk != nil:
		return s.Disk.Devices
	case t == TypeLVM && s.LVM != nil && s.LVM.ThinPool != nil:
		return []string{s.LVM.VolumeGroup + "/" + s.LVM.ThinPool.Name}
	case t == TypeLVM && s.LVM != nil:
		return []string{s.LVM.VolumeGroup}
	}
	return nil
}

// samePlace returns what two datastores with settings of a type share on a host that both have; "" is nothing.
func samePlace(a, b *Datastore, t DatastoreType) string {
	if len(a.Spec.Hosts) > 0 && len(b.Spec.Hosts) > 0 &&
		!slices.ContainsFunc(a.Spec.Hosts, func(h string) bool { return slices.Contains(b.Spec.Hosts, h) }) {
		return ""
	}
	others := b.Spec.places(t)
	for _, place := range a.Spec.places(t) {
		if slices.Contains(others, place) {
			return place
		}
	}
	return ""
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
