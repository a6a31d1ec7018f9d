package v1alpha1_test

import (
	"math"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

func TestPromisable(t *testing.T) {
	const total = 1000
	percent := func(n int32) *int32 { return &n }
	for name, c := range map[string]struct {
		policy  v1alpha1.CapacityPolicy
		foreign int64
		want    int64
	}{
		"no more than there is":              {v1alpha1.CapacityPolicy{}, 0, 1000},
		"less the reserve in percent":        {v1alpha1.CapacityPolicy{Reserve: "5%"}, 0, 950},
		"less the reserve in bytes":          {v1alpha1.CapacityPolicy{Reserve: "100"}, 0, 900},
		"less what others use":               {v1alpha1.CapacityPolicy{Reserve: "5%"}, 100, 850},
		"twice what there is, asked for":     {v1alpha1.CapacityPolicy{OvercommitPercent: percent(200), Reserve: "5%"}, 100, 1850},
		"never negative":                     {v1alpha1.CapacityPolicy{Reserve: "50%"}, 900, 0},
		"a reserve larger than all is all":   {v1alpha1.CapacityPolicy{Reserve: "1Gi"}, 0, 0},
		"less than there is, where asked so": {v1alpha1.CapacityPolicy{OvercommitPercent: percent(50)}, 0, 500},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := c.policy.Promisable(total, c.foreign); err != nil || got != c.want {
				t.Errorf("got %d, %v; want %d", got, err, c.want)
			}
		})
	}
}

func TestPercentDoesNotOverflow(t *testing.T) {
	for _, c := range []struct {
		n    int64
		p    int32
		want int64
	}{
		{1000, 5, 50},
		{999, 10, 99},
		{0, 50, 0},
		{-5, 50, 0},
		{5, -1, 0},
		{math.MaxInt64, 100, math.MaxInt64},
		{math.MaxInt64, 10000, math.MaxInt64},
		{1 << 60, 50, 1 << 59},
	} {
		if got := v1alpha1.Percent(c.n, c.p); got != c.want {
			t.Errorf("%d%% of %d is %d, want %d", c.p, c.n, got, c.want)
		}
	}
}

func TestHostSegmentIsALabelsValue(t *testing.T) {
	long := strings.Repeat("node-", 20) + "1"
	for _, host := range []string{"node-1", "a.b.example", strings.Repeat("n", 63), long} {
		got := v1alpha1.HostSegment(host)
		if msgs := validation.IsValidLabelValue(got); len(msgs) > 0 {
			t.Errorf("%q: %v", got, msgs)
		}
		if (len(host) <= 63) != (got == host) {
			t.Errorf("HostSegment(%q) = %q", host, got)
		}
	}
	if v1alpha1.HostSegment(long) == v1alpha1.HostSegment(long[:len(long)-1]+"2") {
		t.Error("two long hosts have one topology value")
	}
}
