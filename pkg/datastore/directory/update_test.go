package directory_test

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

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
