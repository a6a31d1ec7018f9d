package controller

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestVolumeID(t *testing.T) {
	hash := "v-" + strings.Repeat("0a", 20)
	for name, c := range map[string]struct {
		in   string
		kept bool
	}{
		"a claim's name is kept":                     {"pvc-6f1e2c1a-58d2-4b43-9d0c-0a5a3d1f2b11", true},
		"any DNS label is kept":                      {"data-1", true},
		"63 characters are kept":                     {strings.Repeat("a", 63), true},
		"64 characters are hashed":                   {strings.Repeat("a", 64), false},
		"capitals are hashed":                        {"Data", false},
		"dots are hashed":                            {"a.b", false},
		"a path is hashed":                           {"../../etc", false},
		"Unicode is hashed":                          {"größe", false},
		"a name that looks like a hash is hashed":    {hash, false},
		"a name that begins like a hash may be kept": {"v-1", true},
	} {
		t.Run(name, func(t *testing.T) {
			got := VolumeID(c.in)
			if (got == c.in) != c.kept {
				t.Errorf("VolumeID(%q) = %q", c.in, got)
			}
			if CheckID(got) != nil || len(validation.IsDNS1123Label(got)) > 0 {
				t.Errorf("%q cannot be a record's name", got)
			}
		})
	}
}

func TestCheckIDRefusesHostileHandles(t *testing.T) {
	for name, id := range map[string]string{
		"empty": "", "parent": "..", "escaping": "../x", "absolute": "/etc/passwd", "inner parent": "a..b", "slash": "a/b",
		"NUL": "a\x00b", "4 KiB": strings.Repeat("a", 4096), "Unicode": "volüme", "escape": "%2e%2e", "leading dot": ".hidden",
		"leading dash": "-rf", "space": "a b", "newline": "a\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckID(id); !fault.Is(err, fault.Invalid) {
				t.Errorf("CheckID(%q) = %v", id, err)
			}
		})
	}
	for _, id := range []string{"pvc-1", "Other_Driver.id"} {
		if err := CheckID(id); err != nil {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}

func FuzzVolumeID(f *testing.F) {
	for _, s := range []string{"", "pvc-1", "../x", "v-" + strings.Repeat("0", 40), "a\x00", strings.Repeat("z", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id := VolumeID(name)
		if len(validation.IsDNS1123Label(id)) > 0 || CheckID(id) != nil {
			t.Errorf("VolumeID(%q) = %q is no DNS label", name, id)
		}
		for prefix, id := range map[string]string{"v-": id, "s-": SnapshotID(name)} {
			digits, prefixed := strings.CutPrefix(id, prefix)
			if isHash := prefixed && hashed.MatchString(digits); isHash == (id == name) {
				t.Errorf("the record of %q is called %q, which is neither the name nor a hash, or both", name, id)
			}
		}
	})
}
