package controller

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// The parameters of a StorageClass.
const (
	paramDatastore    = "datastore"
	paramSelector     = "datastoreSelector"
	paramPlacement    = "placement"
	paramProvisioning = "provisioning"
	paramFormat       = "format"
	paramMkfsOptions  = "mkfsOptions"

	// provisionerPrefix is that of external-provisioner's own parameters.
	provisionerPrefix = "csi.storage.k8s.io/"
	paramFilesystem   = provisionerPrefix + "fstype"
	paramClaim        = provisionerPrefix + "pvc/name"
	paramNamespace    = provisionerPrefix + "pvc/namespace"
	paramVolume       = provisionerPrefix + "pv/name"
)

var allowedParameters = []string{
	paramDatastore, paramSelector, paramPlacement, paramProvisioning, paramFormat, paramMkfsOptions, paramFilesystem,
}

// placement says which of several fitting pools is taken.
type placement string

const (
	mostFree placement = "most-free"
	spread   placement = "spread"
)

// parameters are a StorageClass's, understood.
type parameters struct {
	datastore    string
	selector     labels.Selector // nil: by name, or any
	placement    placement
	provisioning v1alpha1.Provisioning // "" leaves it to the datastore
	format       v1alpha1.VolumeFormat // "" leaves it to the datastore
	filesystem   string
	mkfsOptions  string
	namespace    string
	labels       map[string]string
	// own are the parameters without the provisioner's, which a repeated call must repeat.
	own map[string]string
}

// parseParameters understands a StorageClass's parameters. What is unknown or cannot be is fault.Invalid,
// names the parameter and lists what is allowed.
func parseParameters(in map[string]string) (parameters, error) {
	p := parameters{placement: mostFree, labels: map[string]string{}, own: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if err := p.set(key, in[key]); err != nil {
			return p, err
		}
		if !strings.HasPrefix(key, provisionerPrefix) {
			p.own[key] = in[key]
		}
	}
	if p.datastore != "" && p.selector != nil {
		return p, fault.New(fault.Invalid, "parameters %q and %q exclude each other", paramDatastore, paramSelector)
	}
	return p, nil
}

func (p *parameters) set(key, value string) (err error) {
	switch key {
	case paramDatastore:
		if value == "" {
			return fault.New(fault.Invalid, "parameter %q is empty; it names a datastore", key)
		}
		p.datastore = value
	case paramSelector:
		p.selector, err = parseSelector(value)
	case paramPlacement:
		p.placement, err = word(key, value, map[string]placement{"most-free": mostFree, "spread": spread})
	case paramProvisioning:
		p.provisioning, err = word(key, value, map[string]v1alpha1.Provisioning{"thin": v1alpha1.Thin, "thick": v1alpha1.Thick})
	case paramFormat:
		p.format, err = word(key, value, map[string]v1alpha1.VolumeFormat{"image": v1alpha1.FormatImage})
	case paramMkfsOptions:
		p.mkfsOptions = value
	case paramFilesystem:
		p.filesystem = value
	case paramClaim, paramNamespace, paramVolume:
		if key == paramNamespace {
			p.namespace = value
		}
		name := v1alpha1.Group + "/" + strings.ReplaceAll(strings.TrimPrefix(key, provisionerPrefix), "/", "-")
		p.labels[name] = labelValue(value)
	default:
		if !strings.HasPrefix(key, provisionerPrefix) {
			return fault.New(fault.Invalid, "unknown parameter %q; allowed are %s", key, strings.Join(allowedParameters, ", "))
		}
	}
	return err
}

func parseSelector(value string) (labels.Selector, error) {
	s, err := labels.Parse(value)
	if err != nil || s.Empty() {
		return nil, fault.New(fault.Invalid, "parameter %q: %q is not a label selector such as \"tier=gold,site in (a,b)\"", paramSelector, value)
	}
	return s, nil
}

func word[T any](key, value string, allowed map[string]T) (T, error) {
	out, ok := allowed[value]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(allowed)), ", ")
		return out, fault.New(fault.Invalid, "parameter %q: %q is not allowed; allowed are %s", key, value, names)
	}
	return out, nil
}

// labelValue makes a label's value of a name: names of claims may be longer than a label's value.
func labelValue(name string) string {
	if len(validation.IsValidLabelValue(name)) == 0 {
		return name
	}
	return VolumeID(name)
}

// resolveFilesystem decides the file system of a mounted volume: the capability's wins, the parameter
// must be equal or stand alone.
func resolveFilesystem(access v1alpha1.AccessType, capability string, p parameters) (string, []string, error) {
	if p.filesystem != "" {
		if _, err := filesystem.ParseType(p.filesystem); err != nil {
			return "", nil, fault.Wrap(err, "read parameter", paramFilesystem)
		}
	}
	if access == v1alpha1.Block {
		if p.mkfsOptions != "" {
			return "", nil, fault.New(fault.Invalid, "parameter %q is of no use to a raw block volume", paramMkfsOptions)
		}
		return "", nil, nil
	}
	if capability != "" && p.filesystem != "" && capability != p.filesystem {
		return "", nil, fault.New(fault.Invalid, "the capability asks for file system %q, parameter %q for %q; give one",
			capability, paramFilesystem, p.filesystem)
	}
	name := capability
	if name == "" {
		name = p.filesystem
	}
	if name == "" {
		name = string(filesystem.Ext4)
	}
	t, err := filesystem.ParseType(name)
	if err != nil {
		return "", nil, fault.As(fault.Invalid, err)
	}
	options, err := filesystem.ParseMkfsOptions(t, p.mkfsOptions)
	if err != nil {
		return "", nil, fault.Wrap(err, "read parameter", paramMkfsOptions)
	}
	return string(t), options, nil
}
