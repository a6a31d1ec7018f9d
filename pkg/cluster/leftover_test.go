package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// listed answer a list with what the test says. What the test does not expect panics.
type (
	volumes struct {
		store.Table[v1alpha1.DatastoreVolume]
		items []*v1alpha1.DatastoreVolume
	}
	claims struct {
		client.PersistentVolumeClaimInterface
		namespace string
		items     []core.PersistentVolumeClaim
	}
	pvs struct {
		client.PersistentVolumeInterface
		items []core.PersistentVolume
	}
)

func (v volumes) List(context.Context) ([]*v1alpha1.DatastoreVolume, error) { return v.items, nil }

func (c claims) PersistentVolumeClaims(namespace string) client.PersistentVolumeClaimInterface {
	c.namespace = namespace
	return c
}

func (c claims) List(context.Context, metav1.ListOptions) (*core.PersistentVolumeClaimList, error) {
	out := &core.PersistentVolumeClaimList{}
	for _, i := range c.items {
		if i.Namespace == c.namespace {
			out.Items = append(out.Items, i)
		}
	}
	return out, nil
}

func (p pvs) PersistentVolumes() client.PersistentVolumeInterface { return p }

func (p pvs) List(context.Context, metav1.ListOptions) (*core.PersistentVolumeList, error) {
	return &core.PersistentVolumeList{Items: p.items}, nil
}

func pvOf(driver, handle string) core.PersistentVolume {
	return core.PersistentVolume{Spec: core.PersistentVolumeSpec{PersistentVolumeSource: core.PersistentVolumeSource{
		CSI: &core.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle},
	}}}
}

func madeClaim(namespace, name, uid string) core.PersistentVolumeClaim {
	return core.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)}}
}

// Only a volume that can hold nothing of anybody's goes, and only where nobody asks for it.
func TestOnlyVolumesThatNobodyHasUsedAndNobodyWantsAreDeleted(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type volume = v1alpha1.DatastoreVolume
	for name, c := range map[string]struct {
		alter  func(*volume)
		claims []core.PersistentVolumeClaim
		pvs    []core.PersistentVolume
		goes   bool
	}{
		"its claim is gone":               {goes: true},
		"its claim's name is another's":   {claims: []core.PersistentVolumeClaim{madeClaim("ns", "data", "2")}, goes: true},
		"its claim is there":              {claims: []core.PersistentVolumeClaim{madeClaim("ns", "renamed", "1")}},
		"a PersistentVolume names it":     {pvs: []core.PersistentVolume{pvOf("driver", "pvc-1")}},
		"another driver's names it":       {pvs: []core.PersistentVolume{pvOf("other", "pvc-1")}, goes: true},
		"it is young":                     {alter: func(v *volume) { v.CreationTimestamp = metav1.NewTime(now.Add(-leftoverAge)) }},
		"it was attached, or grew":        {alter: func(v *volume) { v.Generation = 2 }},
		"it is attached":                  {alter: func(v *volume) { v.Spec.Attachments = map[string]v1alpha1.Attachment{"a": {}} }},
		"a host uses it":                  {alter: func(v *volume) { v.Status.Nodes = map[string]v1alpha1.NodeStatus{"a": {}} }},
		"it has another's data":           {alter: func(v *volume) { v.Spec.Source = &v1alpha1.VolumeSource{} }},
		"it was found on storage":         {alter: func(v *volume) { v.Spec.StorageUID = "x" }},
		"it is being deleted":             {alter: func(v *volume) { v.Spec.Deletion = &v1alpha1.Deletion{} }},
		"it is none of a claim":           {alter: func(v *volume) { v.Labels = nil }},
		"it has another's kind of a name": {alter: func(v *volume) { v.Spec.Name = "mine" }},
	} {
		t.Run(name, func(t *testing.T) {
			v := &volume{
				ObjectMeta: metav1.ObjectMeta{
					Name: "pvc-1", Generation: 1, CreationTimestamp: metav1.NewTime(now.Add(-leftoverAge - time.Second)),
					Labels: map[string]string{"datastore-csi.io/pvc-namespace": "ns", "datastore-csi.io/pvc-name": "data"},
				},
				Spec: v1alpha1.DatastoreVolumeSpec{Name: "pvc-1"},
			}
			if c.alter != nil {
				c.alter(v)
			}
			var deleted []string
			err := Leftovers{
				Driver: "driver", Volumes: volumes{items: []*volume{v}}, Claims: claims{items: c.claims}, PVs: pvs{items: c.pvs},
				Delete: func(_ context.Context, id string) error { deleted = append(deleted, id); return nil }, Now: func() time.Time { return now },
			}.Sweep(t.Context())
			if err != nil || (len(deleted) > 0) != c.goes || c.goes && !slices.Equal(deleted, []string{"pvc-1"}) {
				t.Errorf("deleted %q, %v", deleted, err)
			}
		})
	}
}
