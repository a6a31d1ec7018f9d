package mount

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestParseWords(t *testing.T) {
	for name, c := range map[string]struct {
		give []string
		want words
	}{
		"nothing":                             {nil, words{}},
		"words that mean nothing here":        {[]string{"defaults", "nofail", "_netdev"}, words{}},
		"attributes":                          {[]string{"nosuid", "nodev"}, words{set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}},
		"read-only is both":                   {[]string{"ro"}, words{set: unix.MOUNT_ATTR_RDONLY, super: []string{"ro"}}},
		"the later word counts":               {[]string{"ro", "rw"}, words{clear: unix.MOUNT_ATTR_RDONLY, super: []string{"ro", "rw"}}},
		"a taken back attribute":              {[]string{"noexec", "exec"}, words{clear: unix.MOUNT_ATTR_NOEXEC}},
		"access times are one field":          {[]string{"noatime", "strictatime"}, words{set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME &^ unix.MOUNT_ATTR_STRICTATIME}},
		"the rest is the file system's":       {[]string{"discard", "commit=5", "sync"}, words{super: []string{"sync"}, data: []string{"discard", "commit=5"}}},
		"a value may hold what a key may not": {[]string{"context=a,b c"}, words{data: []string{"context=a,b c"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseWords(c.give)
			if err != nil {
				t.Fatal(err)
			}
			if got.set != c.want.set || !slices.Equal(got.super, c.want.super) || !slices.Equal(got.data, c.want.data) {
				t.Error(cmp.Diff(c.want, got, cmp.AllowUnexported(words{})))
			}
		})
	}
	for _, bad := range []string{"", "=", "=x", "a b", "ro,exec", "a\x00", "k=\x00", "source=/dev/sda", "a\n"} {
		if _, err := parseWords([]string{bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseWords(f *testing.F) {
	f.Add("ro noatime discard")
	f.Add("source=/x bind")
	f.Fuzz(func(t *testing.T, s string) {
		options := strings.Split(s, " ")
		w, err := parseWords(options)
		if err != nil {
			return
		}
		if len(w.super)+len(w.data) > len(options) {
			t.Errorf("%q became %+v", options, w)
		}
		for _, d := range w.data {
			key, _, _ := strings.Cut(d, "=")
			if _, _, ok := attribute(d); ok || key == "source" || key == "" {
				t.Errorf("%q is handed to the file system", d)
			}
		}
	})
}
