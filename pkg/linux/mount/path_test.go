package mount_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestCheckPath(t *testing.T) {
	long := strings.Repeat("/"+strings.Repeat("a", 254), 16) // 4080 bytes
	for name, c := range map[string]struct {
		path string
		ok   bool
	}{
		"a plain path":                {"/var/lib/kubelet/plugins", true},
		"Unicode and spaces":          {"/srv/тома/a b", true},
		"a name with dots":            {"/srv/..a/b..", true},
		"as long as the kernel takes": {long + "/" + strings.Repeat("b", 14), true},
		"a byte too long":             {long + "/" + strings.Repeat("b", 15), false},
		"a component too long":        {"/srv/" + strings.Repeat("a", 256), false},
		"empty":                       {"", false},
		"the root":                    {"/", false},
		"relative":                    {"srv/a", false},
		"upwards":                     {"/srv/../etc", false},
		"a dot":                       {"/srv/./a", false},
		"a slash at the end":          {"/srv/", false},
		"two slashes":                 {"/srv//a", false},
		"a NUL":                       {"/srv/a\x00b", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := mount.CheckPath(c.path)
			if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"/a/b", "", "/", "//", "/a/../b", "/a\x00", "a", "/" + strings.Repeat("x", 300), strings.Repeat("/x", 3000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if mount.CheckPath(path) != nil {
			return
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || filepath.Dir(path) == path || strings.Contains(path, "\x00") || len(path) > 4095 {
			t.Errorf("accepted %q", path)
		}
	})
}
