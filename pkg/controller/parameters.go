package controller

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The parameters of a StorageClass.
const (
	paramDatastore    = "datastore"
	paramSelector     = "datastoreSelector"
	paramPlacement    = "placement"
	paramProvisioning = "provisioning"
	paramFormat       = "format"
	paramQuota        = "quota"
	paramMkfsOptions  = "mkfsOptions"
	paramRedundancy   = "redundancy"
	paramStripes      = "stripes"

	// provisionerPrefix is that of external-provisioner's own parameters.
	provisionerPrefix = "csi.storage.k8s.io/"
	paramFilesystem   = provisionerPrefix + "fstype"
	paramClaim        = provisionerPrefix + "pvc/name"
	paramNamespace    = provisionerPrefix + "pvc/namespace"
	paramVolume       = provisionerPrefix + "pv/name"
)

var allowedParameters = []string{
	paramDatastore, paramSelector, paramPlacement, paramProvisioning, paramFormat, paramQuota, paramMkfsOptions,
	paramRedundancy, paramStripes, paramFilesystem,
}

// maxStripes bounds how many disks a volume can be striped over.
const maxStripes = 128

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
	quota        v1alpha1.QuotaPolicy  // "" was not asked for
	redundancy   v1alpha1.Redundancy   // "" leaves it to the datastore, as 0 stripes do
	stripes      int
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
	p := parameters{placement: mostFree, labels: map[string]string{}, own: ownParameters(in)}
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if err := p.set(key, in[key]); err != nil {
			return p, err
		}
	}
	if p.datastore != "" && p.selector != nil {
		return p, fault.New(fault.Invalid, "parameters %q and %q exclude each other", paramDatastore, paramSelector)
	}
	return p, nil
}

// ownParameters are those that a repeated call must repeat: all but the provisioner's own.
func ownParameters(in map[string]string) map[string]string {
	out := maps.Clone(in)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, provisionerPrefix) })
	return out
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
		p.format, err = word(key, value, map[string]v1alpha1.VolumeFormat{
			"image": v1alpha1.FormatImage, "subdirectory": v1alpha1.FormatSubdirectory,
		})
	case paramQuota:
		p.quota, err = word(key, value, map[string]v1alpha1.QuotaPolicy{"required": v1alpha1.QuotaRequired, "none": v1alpha1.QuotaNone})
	case paramRedundancy:
		p.redundancy, err = word(key, value, map[string]v1alpha1.Redundancy{
			"none": v1alpha1.RedundancyNone, "mirror": v1alpha1.Mirror, "parity": v1alpha1.Parity, "double-parity": v1alpha1.DoubleParity,
		})
	case paramStripes:
		p.stripes, err = parseStripes(value)
	case paramMkfsOptions:
		p.mkfsOptions = value
	case paramFilesystem:
		p.filesystem = value
	case paramClaim, paramNamespace, paramVolume:
		if key == paramNamespace {
			p.namespace = value
		}
		p.labels[labelKey(key)] = labelValue(value)
	default:
		if !strings.HasPrefix(key, provisionerPrefix) {
			return fault.New(fault.Invalid, "unknown parameter %.100q; allowed are %s", key, strings.Join(allowedParameters, ", "))
		}
	}
	return err
}

func parseSelector(value string) (labels.Selector, error) {
	s, err := labels.Parse(value)
	if err != nil || s.Empty() {
		return nil, fault.New(fault.Invalid, "parameter %q: %.100q is not a label selector such as \"tier=gold,site in (a,b)\"", paramSelector, value)
	}
	return s, nil
}

func parseStripes(value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n < 1 || n > maxStripes {
		return 0, fault.New(fault.Invalid, "parameter %q: %.100q is not a number of disks from 1 to %d", paramStripes, value, maxStripes)
	}
	return int(n), nil
}

func word[T any](key, value string, allowed map[string]T) (T, error) {
	out, ok := allowed[value]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(allowed)), ", ")
		return out, fault.New(fault.Invalid, "parameter %q: %.100q is not allowed; allowed are %s", key, value, names)
	}
	return out, nil
}

// labelKey makes a label of one of the provisioner's own parameters.
func labelKey(parameter string) string {
	return v1alpha1.Group + "/" + strings.ReplaceAll(strings.TrimPrefix(parameter, provisionerPrefix), "/", "-")
}

// labelValue makes a label's value of a name: names of claims may be longer than a label's value.
func labelValue(name string) string {
	if len(validation.IsValidLabelValue(name)) == 0 {
		return name
	}
	return VolumeID(name)
}
