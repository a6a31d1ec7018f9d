package controller_test

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
)

func TestCapacityByFormat(t *testing.T) {
	r := newRig(t, obedient)
	r.has(t, "small", v1alpha1.SubdirectoryQuota)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.snapshot(t, "s", "v") // promises 4096 bytes
	for name, c := range map[string]struct {
		parameters map[string]string
		want       controller.Capacity
	}{
		"images":                         {map[string]string{"datastore": "large"}, controller.Capacity{Available: 9*gib - 4096, Largest: 9*gib - 4096, Smallest: 1 << 20}},
		"sub-directories with quota":     {map[string]string{"format": "subdirectory"}, controller.Capacity{Available: 2 * gib, Largest: 2 * gib, Smallest: 4096}},
		"sub-directories without":        {map[string]string{"format": "subdirectory", "quota": "none"}, controller.Capacity{Available: 11*gib - 4096, Largest: 9*gib - 4096, Smallest: 4096}},
		"what can't be":                  {map[string]string{"format": "subdirectory", "provisioning": "thick"}, controller.Capacity{}},
		"with parameters that can't be":  {map[string]string{"colour": "red"}, controller.Capacity{}},
		"with an unknown datastore":      {map[string]string{"datastore": "x"}, controller.Capacity{}},
		"sub-directories of a raw class": {map[string]string{"format": "subdirectory", "mkfsOptions": "-m 1"}, controller.Capacity{}},
	} {
		got := r.Capacity(t.Context(), controller.CapacityRequest{
			Access: v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem}, Parameters: c.parameters,
		})
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
