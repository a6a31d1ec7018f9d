package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The mutable parameters.
const (
	paramOnDelete = "onDelete"
	paramWipe     = "wipe"
)

// mutable are a VolumeAttributesClass's parameters, understood; "" was not asked for.
type mutable struct {
	onDelete v1alpha1.DeletePolicy
	wipe     v1alpha1.WipePolicy
}

// parseMutable understands mutable parameters. What is unknown is fault.Invalid and lists what is allowed.
func parseMutable(in map[string]string) (m mutable, err error) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		switch key {
		case paramOnDelete:
			m.onDelete, err = word(key, in[key], map[string]v1alpha1.DeletePolicy{
				"delete": v1alpha1.DeleteData, "retain": v1alpha1.RetainData, "archive": v1alpha1.ArchiveData,
			})
		case paramWipe:
			m.wipe, err = word(key, in[key], map[string]v1alpha1.WipePolicy{
				"none": v1alpha1.WipeNone, "discard": v1alpha1.WipeDiscard, "zero": v1alpha1.WipeZero,
			})
		default:
			err = fault.New(fault.Invalid, "unknown mutable parameter %.100q; allowed are %s, %s", key, paramOnDelete, paramWipe)
		}
		if err != nil {
			return mutable{}, err
		}
	}
	return m, nil
}

// hold tells whether a volume has what the parameters say.
func (m mutable) hold(v *v1alpha1.DatastoreVolume) bool {
	return (m.onDelete == "" || m.onDelete == v.Spec.OnDelete) && (m.wipe == "" || m.wipe == v.Spec.Wipe)
}

// ends says what can't become of a volume's data on a type, as fault.Invalid. What is "" is the datastore's.
func ends(c datastore.Capabilities, policy v1alpha1.DeletePolicy, wipe v1alpha1.WipePolicy) error {
	if policy != "" && !slices.Contains(c.OnDelete, policy) {
		return unserved(paramOnDelete, policy, c.OnDelete)
	}
	if wipe != "" && !slices.Contains(c.Wipe, wipe) {
		return unserved(paramWipe, wipe, c.Wipe)
	}
	return nil
}

func unserved[T ~string](parameter string, asked T, served []T) error {
	words := make([]string, len(served))
	for i, s := range served {
		words[i] = strings.ToLower(string(s))
	}
	return fault.New(fault.Invalid, "parameter %q: its type can't %s; it can [%s]", parameter, strings.ToLower(string(asked)), strings.Join(words, ", "))
}

// zeroes says why a pool with those features can't wipe a volume of that format with zeroes, as fault.Invalid.
func zeroes(format v1alpha1.VolumeFormat, features []v1alpha1.Feature) error {
	why := ""
	switch {
	case format == v1alpha1.FormatSubdirectory:
		why = "to a sub-directory, whose files' old blocks nobody can name"
	case !slices.Contains(features, v1alpha1.WipeByZeroes):
		why = "there, since its file system writes elsewhere what is overwritten"
	default:
		return nil
	}
	return fault.New(fault.Invalid, "parameter %q: zero is of no use %s; ask for discard or none", paramWipe, why)
}
