package datastore

import (
	"math"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

func TestRedundancyTakesItsShare(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		redundancy v1alpha1.Redundancy
		stripes    int
		takes      int64
	}{
		"none said":                   {"", 0, 6 * gib},
		"none":                        {v1alpha1.RedundancyNone, 4, 6 * gib},
		"a mirror":                    {v1alpha1.Mirror, 0, 12 * gib},
		"a striped mirror":            {v1alpha1.Mirror, 3, 12 * gib},
		"parity on the fewest disks":  {v1alpha1.Parity, 0, 9 * gib},
		"parity on four disks":        {v1alpha1.Parity, 3, 8 * gib},
		"double parity on the fewest": {v1alpha1.DoubleParity, 0, 10 * gib},
		"double parity on eight":      {v1alpha1.DoubleParity, 6, 8 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			v := Volume{Bytes: 6 * gib, Redundancy: c.redundancy, Stripes: c.stripes}
			if got := v.Takes(); got != c.takes {
				t.Errorf("takes %d, want %d", got, c.takes)
			}
			if got := v.Fitting(c.takes, 1<<22); got != 6*gib {
				t.Errorf("%d bytes fit into what it takes", got)
			}
			if got := v.Fitting(c.takes-1, 1<<22); got != 6*gib-1<<22 {
				t.Errorf("%d bytes fit into a byte less", got)
			}
		})
	}
}

func TestNothingTakesMoreThanThereIs(t *testing.T) {
	for _, r := range []v1alpha1.Redundancy{"", v1alpha1.Mirror, v1alpha1.Parity, v1alpha1.DoubleParity} {
		v := Volume{Bytes: math.MaxInt64, Redundancy: r}
		if got := v.Takes(); got != math.MaxInt64 {
			t.Errorf("%q: %d", r, got)
		}
		if got := v.Fitting(-5, 4096); got != 0 {
			t.Errorf("%q: %d fit into less than nothing", r, got)
		}
	}
}

func TestALayoutThatATypeLacksIsNamed(t *testing.T) {
	c := Capabilities{
		AccessTypes: []v1alpha1.AccessType{v1alpha1.Block}, Formats: []v1alpha1.VolumeFormat{v1alpha1.FormatDevice},
		Provisioning: []v1alpha1.Provisioning{v1alpha1.Thick},
	}
	v := Volume{Access: v1alpha1.Block, Format: v1alpha1.FormatDevice, Provisioning: v1alpha1.Thick, Redundancy: v1alpha1.RedundancyNone, Stripes: 1}
	if lacks := c.Missing(v); len(lacks) > 0 {
		t.Errorf("lacks %q", lacks)
	}
	v.Redundancy, v.Stripes = v1alpha1.Mirror, 2
	if lacks := c.Missing(v); len(lacks) != 2 {
		t.Errorf("lacks %q", lacks)
	}
	c.Redundancy, c.Stripes = []v1alpha1.Redundancy{v1alpha1.Mirror}, true
	if lacks := c.Missing(v); len(lacks) > 0 {
		t.Errorf("lacks %q", lacks)
	}
}
