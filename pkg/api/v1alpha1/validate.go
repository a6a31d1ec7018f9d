package v1alpha1

import (
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of what an administrator may write.
const (
	maxPathBytes         = 4096 // PATH_MAX, limits.h
	maxOvercommitPercent = 10000
	maxHosts             = 5000
	maxMachineIDBytes    = 64
)

// Validate checks a datastore whose defaults are set. Each error names the field, the value that it has
// and what is allowed.
func (d *Datastore) Validate() field.ErrorList {
	var errs field.ErrorList
	meta := field.NewPath("metadata")
	// A name becomes a label value and a metric's label: at most 63 characters.
	for _, msg := range validation.IsDNS1123Label(d.Name) {
		errs = append(errs, field.Invalid(meta.Child("name"), d.Name, msg))
	}
	for key, value := range d.Labels {
		for _, msg := range validation.IsQualifiedName(key) {
			errs = append(errs, field.Invalid(meta.Child("labels"), key, msg))
		}
		for _, msg := range validation.IsValidLabelValue(value) {
			errs = append(errs, field.Invalid(meta.Child("labels").Key(key), value, msg))
		}
	}
	return append(errs, d.Spec.validate(field.NewPath("spec"))...)
}

func (s *DatastoreSpec) validate(p *field.Path) field.ErrorList {
	errs := oneOf(p.Child("type"), s.Type, TypeDirectory, TypePartition, TypeDisk, TypeLVM)
	errs = append(errs, s.validateSettings(p)...)
	errs = append(errs, s.Capacity.validate(p.Child("capacity"))...)
	errs = append(errs, s.Volumes.validate(p.Child("volumes"), s)...)
	errs = append(errs, oneOf(p.Child("state"), s.State, StateActive, StateInactive)...)
	errs = append(errs, oneOf(p.Child("maintenance"), s.Maintenance, MaintenanceNone, Cordon)...)
	errs = append(errs, names(p.Child("hosts"), s.Hosts, validation.IsDNS1123Subdomain)...)
	return append(errs, names(p.Child("allowedNamespaces"), s.AllowedNamespaces, validation.IsDNS1123Label)...)
}

func (s *DirectorySpec) validate(p *field.Path) field.ErrorList {
	return append(absolutePath(p.Child("path"), s.Path), machineID(p.Child("adoptFrom"), s.AdoptFrom)...)
}

func machineID(p *field.Path, s string) field.ErrorList {
	if len(s) > maxMachineIDBytes || strings.Trim(s, "0123456789abcdef-") != "" {
		return field.ErrorList{field.Invalid(p, s, "a machine-id: hexadecimal digits, as in /etc/machine-id")}
	}
	return nil
}

func absolutePath(p *field.Path, s string) field.ErrorList {
	why := ""
	switch {
	case s == "":
		return field.ErrorList{field.Required(p, "an absolute path, such as /srv/fast")}
	case len(s) > maxPathBytes:
		return field.ErrorList{field.TooLong(p, s[:64]+"…", maxPathBytes)}
	case strings.ContainsRune(s, 0):
		why = "must not contain NUL"
	case !path.IsAbs(s):
		why = "must be absolute, such as /srv/fast"
	case path.Clean(s) == "/":
		why = "must not be the root directory"
	case path.Clean(s) != strings.TrimRight(s, "/"):
		why = "must be written without '.', '..' and empty parts"
	}
	if why == "" {
		return nil
	}
	return field.ErrorList{field.Invalid(p, s, why)}
}

func (c *CapacityPolicy) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, err := c.ReserveBytes(0); err != nil {
		errs = append(errs, field.Invalid(p.Child("reserve"), c.Reserve, err.Error()))
	}
	errs = append(errs, between(p.Child("overcommitPercent"), c.OvercommitPercent, 1, maxOvercommitPercent)...)
	errs = append(errs, between(p.Child("warnPercent"), c.WarnPercent, 1, 100)...)
	errs = append(errs, between(p.Child("criticalPercent"), c.CriticalPercent, 1, 100)...)
	if c.WarnPercent != nil && c.CriticalPercent != nil && *c.WarnPercent > *c.CriticalPercent {
		errs = append(errs, field.Invalid(p.Child("warnPercent"), *c.WarnPercent, "must not be more than criticalPercent"))
	}
	if c.MaxVolumes < 0 {
		errs = append(errs, field.Invalid(p.Child("maxVolumes"), c.MaxVolumes, "must be 0 (no bound) or more"))
	}
	return errs
}

func (v *VolumeDefaults) validate(p *field.Path, s *DatastoreSpec) field.ErrorList {
	provisioning, formats := []Provisioning{Thin, Thick}, []VolumeFormat{FormatImage, FormatSubdirectory}
	switch {
	case s.Type == TypeLVM && s.LVM != nil && s.LVM.ThinPool != nil:
		provisioning, formats = []Provisioning{Thin}, []VolumeFormat{FormatDevice}
	case s.Type == TypeLVM, s.Type == TypeDisk:
		provisioning, formats = []Provisioning{Thick}, []VolumeFormat{FormatDevice}
	}
	errs := oneOf(p.Child("provisioning"), v.Provisioning, provisioning...)
	errs = append(errs, oneOf(p.Child("format"), v.Format, formats...)...)
	errs = append(errs, oneOf(p.Child("onDelete"), v.OnDelete, DeleteData, RetainData, ArchiveData)...)
	return append(errs, oneOf(p.Child("wipe"), v.Wipe, WipeDefault, WipeNone, WipeDiscard, WipeZero)...)
}

func oneOf[T ~string](p *field.Path, got T, allowed ...T) field.ErrorList {
	for _, a := range allowed {
		if got == a {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(p, got, allowed)}
}

func between(p *field.Path, got *int32, low, high int32) field.ErrorList {
	if got == nil || (*got >= low && *got <= high) {
		return nil
	}
	return field.ErrorList{field.Invalid(p, *got, validation.InclusiveRangeError(int(low), int(high)))}
}

func names(p *field.Path, list []string, check func(string) []string) field.ErrorList {
	if len(list) > maxHosts {
		return field.ErrorList{field.TooMany(p, len(list), maxHosts)}
	}
	var errs field.ErrorList
	for i, name := range list {
		for _, msg := range check(name) {
			errs = append(errs, field.Invalid(p.Index(i), name, msg))
		}
	}
	return errs
}
