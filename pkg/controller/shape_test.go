package controller

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func format(f v1alpha1.VolumeFormat) func(*demand) {
	return func(d *demand) { d.volume.Format = f }
}

func byDefault(f v1alpha1.VolumeFormat) func(*candidate) {
	return func(c *candidate) { c.datastore.Spec.Volumes.Format = f }
}

func features(f ...v1alpha1.Feature) func(*candidate) {
	return func(c *candidate) { c.pool.Features = f }
}

// trees is a pool of a type that has sub-directories too.
func trees(c *candidate) {
	c.capabilities.Formats = []v1alpha1.VolumeFormat{v1alpha1.FormatImage, v1alpha1.FormatSubdirectory}
}

func TestTheFormatDecidesWhatAVolumeIs(t *testing.T) {
	thick := func(c *candidate) {
		c.datastore.Spec.Volumes.Provisioning = v1alpha1.Thick
		c.pool.Free = v1alpha1.Bytes(9 * gib)
	}
	none := func(d *demand) { d.volume.Quota = v1alpha1.QuotaNone }
	for name, c := range map[string]struct {
		demand    demand
		candidate candidate
		format    v1alpha1.VolumeFormat
		how       v1alpha1.Provisioning
		fs        bool
		quota     v1alpha1.QuotaPolicy
	}{
		"an image where the datastore says so":              {ask(), pool("a", gib, 0, 0, trees), v1alpha1.FormatImage, v1alpha1.Thin, true, ""},
		"an image where the class says so":                  {ask(format(v1alpha1.FormatImage)), pool("a", gib, 0, 0, trees, byDefault(v1alpha1.FormatSubdirectory)), v1alpha1.FormatImage, v1alpha1.Thin, true, ""},
		"a thick image where the datastore says so":         {ask(), pool("a", gib, 0, 0, thick), v1alpha1.FormatImage, v1alpha1.Thick, true, ""},
		"a sub-directory where the class says so":           {ask(format(v1alpha1.FormatSubdirectory)), pool("a", gib, 0, 0, trees, features(v1alpha1.SubdirectoryQuota)), v1alpha1.FormatSubdirectory, v1alpha1.Thin, false, v1alpha1.QuotaRequired},
		"a sub-directory where the datastore says so":       {ask(none), pool("a", gib, 0, 0, trees, byDefault(v1alpha1.FormatSubdirectory)), v1alpha1.FormatSubdirectory, v1alpha1.Thin, false, v1alpha1.QuotaNone},
		"a sub-directory takes no notice of thick defaults": {ask(format(v1alpha1.FormatSubdirectory), none), pool("a", gib, 0, 0, trees, thick), v1alpha1.FormatSubdirectory, v1alpha1.Thin, false, v1alpha1.QuotaNone},
	} {
		t.Run(name, func(t *testing.T) {
			fits, refusals := place(c.demand, []candidate{c.candidate})
			if len(fits) != 1 {
				t.Fatal(refuse(refusals))
			}
			v := fits[0].volume
			if v.Format != c.format || v.Provisioning != c.how || (v.Filesystem != nil) != c.fs || v.Quota != c.quota {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestWhatAFormatCantHaveIsRefused(t *testing.T) {
	tree := format(v1alpha1.FormatSubdirectory)
	quota := features(v1alpha1.SubdirectoryQuota)
	for name, c := range map[string]struct {
		demand    demand
		candidate candidate
		kind      fault.Kind
		says      []string
	}{
		"raw block":                  {ask(tree, func(d *demand) { d.volume.Access = v1alpha1.Block; d.volume.Filesystem = nil }), pool("a", gib, 0, 0, trees, quota), fault.Invalid, []string{"subdirectory", "image"}},
		"a file system of its own":   {ask(tree, func(d *demand) { d.wish.explicit = "xfs" }), pool("a", gib, 0, 0, trees, quota), fault.Invalid, []string{"xfs", "file system of its datastore"}},
		"mkfs options":               {ask(tree, func(d *demand) { d.wish.tuned = true }), pool("a", gib, 0, 0, trees, quota), fault.Invalid, []string{"mkfsOptions", "file system of its datastore"}},
		"thick":                      {ask(tree, func(d *demand) { d.volume.Provisioning = v1alpha1.Thick }), pool("a", gib, 0, 0, trees, quota), fault.Invalid, []string{"thick"}},
		"a file system's mount flag": {ask(tree, func(d *demand) { d.wish.flags = []string{"data=journal"} }), pool("a", gib, 0, 0, trees, quota), fault.Invalid, []string{"data", "noatime"}},
		"a quota that can't be":      {ask(tree), pool("a", gib, 0, 0, trees), fault.Invalid, []string{"prjquota", "quota: none"}},
		"a quota while it is down":   {ask(tree), pool("a", gib, 0, 0, trees, func(c *candidate) { c.pool.Health = v1alpha1.Unavailable }), fault.Unavailable, nil},
		"on a type without them":     {ask(tree), pool("a", gib, 0, 0, quota), fault.Invalid, []string{"Subdirectory", "[Image]"}},
		"a quota for an image":       {ask(func(d *demand) { d.volume.Quota = v1alpha1.QuotaNone }), pool("a", gib, 0, 0), fault.Invalid, []string{"quota", "image"}},
		"a mount flag for an image":  {ask(func(d *demand) { d.wish.flags = []string{"loop"} }), pool("a", gib, 0, 0), fault.Invalid, []string{"loop"}},
		"zeroes as the datastore's own wipe": {ask(), pool("a", gib, 0, 0, func(c *candidate) {
			c.datastore.Spec.Volumes.Wipe = v1alpha1.WipeZero
			c.capabilities.Wipe = []v1alpha1.WipePolicy{v1alpha1.WipeZero}
		}), fault.Invalid, []string{"wipe"}},
		"zeroes for a sub-directory": {ask(tree, func(d *demand) { d.volume.Quota, d.volume.Wipe = v1alpha1.QuotaNone, v1alpha1.WipeZero }), pool("a", gib, 0, 0, trees, features(v1alpha1.WipeByZeroes), func(c *candidate) {
			c.capabilities.Wipe = []v1alpha1.WipePolicy{v1alpha1.WipeZero}
		}), fault.Invalid, []string{"wipe", "sub-directory"}},
		"copies on a type without them": {ask(func(d *demand) { d.source = &origin{kind: v1alpha1.SourceVolume, id: "v"} }), pool("a", gib, 0, 0), fault.Invalid, []string{"copies of a volume"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, refusals := place(c.demand, []candidate{c.candidate})
			if len(refusals) != 1 {
				t.Fatal("it was not refused")
			}
			err := refuse(refusals)
			if !fault.Is(err, c.kind) {
				t.Errorf("got %v (%v)", err, fault.KindOf(err))
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestAPoolThatCanOutweighsOneThatNeverCan(t *testing.T) {
	with, without := pool("with", gib, gib, 1, trees, features(v1alpha1.SubdirectoryQuota)), pool("without", gib, 0, 0, trees)
	_, refusals := place(ask(format(v1alpha1.FormatSubdirectory)), []candidate{with, without})
	if err := refuse(refusals); !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), "without on host") {
		t.Errorf("one is full, one can't: %v", err)
	}
	with.promised = 0
	if fits, _ := place(ask(format(v1alpha1.FormatSubdirectory)), []candidate{without, with}); len(fits) != 1 || fits[0].datastore.Name != "with" {
		t.Errorf("fits are %v", fits)
	}
}

func TestLeastBytes(t *testing.T) {
	for name, c := range map[string]struct {
		volume datastore.Volume
		want   int64
	}{
		"a sub-directory is as small as it can be": {datastore.Volume{Format: v1alpha1.FormatSubdirectory}, local.Granularity},
		"an image holds its file system":           {datastore.Volume{Format: v1alpha1.FormatImage, Filesystem: &v1alpha1.FilesystemSpec{Type: "xfs"}}, 300 << 20},
		"a raw image":                              {datastore.Volume{Format: v1alpha1.FormatImage}, 1 << 20},
	} {
		if got := leastBytes(local, c.volume); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
