package v1alpha1

// The defaults of a datastore's capacity policy.
const (
	DefaultOvercommitPercent int32 = 100
	DefaultReserve                 = "5%"
	DefaultWarnPercent       int32 = 80
	DefaultCriticalPercent   int32 = 95
)

// SetDefaults fills in what the administrator left out of a datastore's spec.
func (d *Datastore) SetDefaults() {
	c, v := &d.Spec.Capacity, &d.Spec.Volumes
	fill(&c.OvercommitPercent, DefaultOvercommitPercent)
	fill(&c.WarnPercent, DefaultWarnPercent)
	fill(&c.CriticalPercent, DefaultCriticalPercent)
	fillWord(&c.Reserve, DefaultReserve)
	if d.Spec.Type == TypeLVM && d.Spec.LVM != nil && d.Spec.LVM.ThinPool != nil {
		fillWord(&v.Provisioning, Thin)
	}
	switch d.Spec.Type {
	case TypeLVM, TypeDisk:
		fillWord(&v.Format, FormatDevice)
		fillWord(&v.Provisioning, Thick)
	default:
		fillWord(&v.Format, FormatImage)
		fillWord(&v.Provisioning, Thin)
	}
	if d.Spec.Partition != nil {
		fillWord(&d.Spec.Partition.Provision, ProvisionNever)
	}
	if d.Spec.LVM != nil {
		fillWord(&d.Spec.LVM.Provision, ProvisionNever)
	}
	fillWord(&v.OnDelete, DeleteData)
	fillWord(&d.Spec.State, StateActive)
}

func fill(p **int32, value int32) {
	if *p == nil {
		*p = &value
	}
}

func fillWord[T ~string](p *T, value T) {
	if *p == "" {
		*p = value
	}
}
