package controller

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestParseParameters(t *testing.T) {
	p, err := parseParameters(map[string]string{
		"datastore": "fast", "placement": "spread", "provisioning": "thick", "format": "image", "mkfsOptions": "-m 1",
		"csi.storage.k8s.io/fstype": "xfs", "csi.storage.k8s.io/pvc/name": strings.Repeat("n", 200),
		"csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/unheard-of": "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.datastore != "fast" || p.placement != spread || p.provisioning != v1alpha1.Thick || p.filesystem != "xfs" || p.namespace != "team" {
		t.Errorf("got %+v", p)
	}
	if got := p.labels["datastore-csi.io/pvc-namespace"]; got != "team" {
		t.Errorf("the namespace's label is %q", got)
	}
	if got := p.labels["datastore-csi.io/pvc-name"]; len(got) == 0 || len(got) > 63 {
		t.Errorf("a long claim's label is %q", got)
	}
	for key := range p.own {
		if strings.HasPrefix(key, provisionerPrefix) {
			t.Errorf("%s is compared on repeats", key)
		}
	}
}

func TestParseParametersRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in    map[string]string
		names []string
	}{
		"an unknown parameter, and lists the known": {map[string]string{"datastor": "a"}, []string{"datastor", "datastoreSelector", "mkfsOptions"}},
		"an unknown placement":                      {map[string]string{"placement": "best"}, []string{"placement", "most-free", "spread"}},
		"an unknown provisioning":                   {map[string]string{"provisioning": "Thin"}, []string{"thin", "thick"}},
		"a format that is not served":               {map[string]string{"format": "tar"}, []string{"image", "subdirectory"}},
		"an empty name":                             {map[string]string{"datastore": ""}, []string{"datastore"}},
		"an empty selector":                         {map[string]string{"datastoreSelector": ""}, []string{"datastoreSelector"}},
		"a selector that is none":                   {map[string]string{"datastoreSelector": "a=(b"}, []string{"datastoreSelector", "a=(b"}},
		"an unknown quota":                          {map[string]string{"quota": "some"}, []string{"quota", "required", "none"}},
		"an unknown redundancy":                     {map[string]string{"redundancy": "raid9"}, []string{"redundancy", "double-parity", "mirror"}},
		"stripes over no disk":                      {map[string]string{"stripes": "0"}, []string{"stripes", "1 to 128"}},
		"stripes that are no number":                {map[string]string{"stripes": "-2"}, []string{"stripes"}},
		"a mutable parameter":                       {map[string]string{"onDelete": "retain"}, []string{"onDelete"}},
		"a name and a selector":                     {map[string]string{"datastore": "a", "datastoreSelector": "b=c"}, []string{"exclude"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseParameters(c.in)
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.names {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
		})
	}
}

func TestResolveFilesystem(t *testing.T) {
	for name, c := range map[string]struct {
		access                v1alpha1.AccessType
		capability, parameter string
		want                  string
		refused               bool
	}{
		"none asked for is ext4":            {v1alpha1.Filesystem, "", "", "ext4", false},
		"the capability's":                  {v1alpha1.Filesystem, "xfs", "", "xfs", false},
		"the parameter's":                   {v1alpha1.Filesystem, "", "btrfs", "btrfs", false},
		"both the same":                     {v1alpha1.Filesystem, "xfs", "xfs", "xfs", false},
		"both, but different":               {v1alpha1.Filesystem, "xfs", "ext4", "", true},
		"one that is not served":            {v1alpha1.Filesystem, "ntfs", "", "", true},
		"raw block has none":                {v1alpha1.Block, "", "", "", false},
		"raw block ignores the class's own": {v1alpha1.Block, "", "xfs", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := resolveFilesystem(wanting(c.access, c.capability), parameters{filesystem: c.parameter}, nil)
			if fault.Is(err, fault.Invalid) != c.refused || (err == nil && got.name != c.want) {
				t.Errorf("got %q, %v", got.name, err)
			}
		})
	}
	if _, err := resolveFilesystem(wanting(v1alpha1.Block, ""), parameters{mkfsOptions: "-m 1"}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("mkfsOptions for raw block: %v", err)
	}
	got, err := resolveFilesystem(wanting(v1alpha1.Filesystem, "ext4"), parameters{mkfsOptions: "-m 1"}, nil)
	if err != nil || !slices.Contains(got.options, "1") {
		t.Errorf("options %q, %v", got.options, err)
	}
	xfs := &origin{kind: v1alpha1.SourceVolume, filesystem: &v1alpha1.FilesystemSpec{Type: "xfs"}}
	if got, err := resolveFilesystem(wanting(v1alpha1.Filesystem, ""), parameters{}, xfs); err != nil || got.name != "xfs" {
		t.Errorf("a copy where nothing is asked for gets %q, %v", got.name, err)
	}
	if _, err := resolveFilesystem(wanting(v1alpha1.Filesystem, ""), parameters{mkfsOptions: "-m 1"}, xfs); !fault.Is(err, fault.Invalid) {
		t.Errorf("mkfsOptions for a copy: %v", err)
	}
}

func wanting(access v1alpha1.AccessType, fs string) CreateRequest {
	return CreateRequest{Access: v1alpha1.VolumeAccess{Type: access}, Filesystem: fs}
}

func FuzzParseParameters(f *testing.F) {
	f.Add("datastoreSelector", "a in (b,c),!d")
	f.Add("mkfsOptions", "-O ^has_journal -J device=/dev/sda")
	f.Add("csi.storage.k8s.io/pvc/name", "\x00")
	f.Fuzz(func(t *testing.T, key, value string) {
		p, err := parseParameters(map[string]string{key: value})
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q=%q is %v, not invalid", key, value, err)
		}
		if err == nil {
			_, _ = resolveFilesystem(wanting(v1alpha1.Filesystem, ""), p, nil) // must not panic
		}
	})
}

func FuzzParametersOfSnapshotsAndAttributes(f *testing.F) {
	f.Add("onDelete", "archive")
	f.Add("wipe", "zero\x00")
	f.Add("snapshotSize", "120%")
	f.Add("csi.storage.k8s.io/volumesnapshot/name", strings.Repeat("ä", 300))
	f.Fuzz(func(t *testing.T, key, value string) {
		in := map[string]string{key: value}
		if _, err := parseMutable(in); err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("mutable %q=%q is %v, not invalid", key, value, err)
		}
		labels, _, err := snapshotParameters(in)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q=%q is %v, not invalid", key, value, err)
		}
		for name, l := range labels {
			if len(validation.IsQualifiedName(name))+len(validation.IsValidLabelValue(l)) > 0 {
				t.Errorf("%q=%q becomes the label %q=%q", key, value, name, l)
			}
		}
	})
}

func FuzzPaged(f *testing.F) {
	f.Add("after:b", 1)
	f.Add("after:../etc", -1)
	f.Add("b", 0)
	f.Fuzz(func(t *testing.T, token string, most int) {
		all := []string{"a", "b", "c", "d"}
		page, err := paged(all, token, most, func(id string) (string, string, bool) { return id, id, id != "b" })
		if err != nil && !fault.Is(err, fault.Busy) && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q, %d: %v", token, most, err)
		}
		if err == nil && most > 0 && len(page.Entries) > most {
			t.Errorf("%q, %d: %q", token, most, page.Entries)
		}
		if page.Next != "" && page.Next != tokenPrefix+page.Entries[len(page.Entries)-1] {
			t.Errorf("%q, %d: next is %q after %q", token, most, page.Next, page.Entries)
		}
	})
}
