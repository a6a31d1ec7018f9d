package directory_test

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

func TestExpandHasTheMarkSayWhatBecomesOfTheVolume(t *testing.T) {
	p := newPool(t, disk(t, "ext4", 64*mib))
	v := thin("v", 16*mib)
	v.OnDelete = v1alpha1.RetainData
	create(t, p, v)
	says := func() datastore.Volume {
		t.Helper()
		found, err := p.List(t.Context())
		must(t, err)
		return found[0].Volume
	}
	v.OnDelete, v.Wipe = v1alpha1.ArchiveData, v1alpha1.WipeZero
	for range 2 {
		made, err := p.Expand(t.Context(), v)
		must(t, err)
		if m := says(); m.OnDelete != v.OnDelete || m.Wipe != v.Wipe || m.Bytes != 16*mib || made.Bytes != 16*mib {
			t.Errorf("the mark says %+v, made %+v", m, made)
		}
	}
	v.Bytes, v.OnDelete = 24*mib, v1alpha1.DeleteData
	_, err := p.Expand(t.Context(), v)
	must(t, err)
	if m := says(); m.OnDelete != v.OnDelete || m.Bytes != v.Bytes {
		t.Errorf("the mark says %+v", m)
	}
}

func TestAnOpenPoolTakesUpAChangedWipe(t *testing.T) {
	c := config(t, disk(t, "ext4", 64*mib))
	p := open(t, c)
	v := thin("v", 16*mib)
	create(t, p, v)
	discards := func() bool {
		t.Helper()
		opened, err := p.Open(t.Context(), v, false)
		must(t, err)
		must(t, p.Close(t.Context(), v))
		return opened.Discard
	}
	if !discards() {
		t.Error("a thin volume gives no space back")
	}
	changed := c.Datastore.DeepCopy()
	changed.Spec.Volumes.Wipe = v1alpha1.WipeZero
	p.(interface{ Update(*v1alpha1.Datastore) }).Update(changed)
	if discards() {
		t.Error("what is to be overwritten in the end is given back before")
	}
}
