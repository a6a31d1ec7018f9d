package datastore

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// ReasonInactive is the reason of the finding of a pool that its administrator has switched off: what is mounted from
// it stays.
const ReasonInactive = "Inactive"

// assess turns a measurement, or why there is none, and the last audit into what the record says of the
// pool. What has no record keeps what it was promised: it may be in use, and it may get its record back.
func assess(d *v1alpha1.Datastore, s Status, err error, audit Audit) v1alpha1.PoolStatus {
	out := v1alpha1.PoolStatus{ObservedGeneration: d.Generation, Health: v1alpha1.Healthy, Orphans: audit.Orphans}
	if err != nil {
		out.Health = v1alpha1.Unavailable
		reason := "Unavailable"
		if d.Spec.State == v1alpha1.StateInactive {
			reason = ReasonInactive
		}
		out.Findings = []v1alpha1.Finding{{Reason: reason, Message: err.Error()}}
		return out
	}
	promisable, err := d.Spec.Capacity.Promisable(s.Total, max(0, s.Used-s.Own))
	if err != nil {
		out.Findings = append(out.Findings, v1alpha1.Finding{Reason: "Capacity", Message: err.Error()})
	}
	out.Total, out.Used, out.Own = v1alpha1.Bytes(s.Total), v1alpha1.Bytes(s.Used), v1alpha1.Bytes(s.Own)
	out.Free, out.Promisable = v1alpha1.Bytes(s.Free), v1alpha1.Bytes(max(0, promisable-audit.Promised))
	out.Largest = v1alpha1.Bytes(s.Largest)
	out.Features = s.Features
	out.Findings = slices.Concat(out.Findings, s.Findings, audit.Findings)
	if len(out.Findings) > 0 {
		out.Health = v1alpha1.Warning
	}
	out.Health = worse(out.Health, fullness(d.Spec.Capacity, s, &out.Findings))
	if s.Degraded {
		out.Health = worse(out.Health, v1alpha1.Critical)
	}
	return out
}

// fullness compares what is used with the administrator's thresholds.
func fullness(c v1alpha1.CapacityPolicy, s Status, findings *[]v1alpha1.Finding) v1alpha1.Health {
	for _, level := range []struct {
		percent *int32
		health  v1alpha1.Health
		reason  string
		then    string
	}{
		{c.CriticalPercent, v1alpha1.Critical, "CriticallyFull", "nothing new is promised until space is freed or added"},
		{c.WarnPercent, v1alpha1.Warning, "NearlyFull", "free space or add some before it is critical"},
	} {
		if level.percent == nil || s.Total <= 0 || s.Used < v1alpha1.Percent(s.Total, *level.percent) {
			continue
		}
		*findings = append(*findings, v1alpha1.Finding{Reason: level.reason, Message: fmt.Sprintf(
			"%s of %s are used, the limit is %d%%: %s", human(s.Used), human(s.Total), *level.percent, level.then)})
		return level.health
	}
	return v1alpha1.Healthy
}

func worse(a, b v1alpha1.Health) v1alpha1.Health {
	if a.Severity() >= b.Severity() {
		return a
	}
	return b
}

// human writes bytes in whole mebibytes, which is exact enough for a sentence.
func human(n int64) string {
	const mebibyte = 1 << 20
	return resource.NewQuantity(n/mebibyte*mebibyte, resource.BinarySI).String()
}
