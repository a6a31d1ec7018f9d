package testbed_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

func TestDiskIsASizeAFileOrBoth(t *testing.T) {
	for text, want := range map[string]testbed.Disk{
		"4G":          {Size: 4 << 30},
		"4096":        {Size: 4096},
		"/srv/a":      {Path: "/srv/a"},
		"./a":         {Path: "./a"},
		"/srv/a:512M": {Path: "/srv/a", Size: 512 << 20},
		"a.img:1T":    {Path: "a.img", Size: 1 << 40},
	} {
		if got, err := testbed.ParseDisk(text); err != nil || got != want {
			t.Errorf("%q gave %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "4X", "0", "-1", "4g", "G", "1.5G", ":/a", "/a:", "/a:b", "9223372036854775807K"} {
		if got, err := testbed.ParseDisk(text); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q gave %+v, %v, want an error that says what is wanted", text, got, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"1", "4G", "8388608T", "K", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if size, err := testbed.ParseSize(text); err == nil && size <= 0 {
			t.Errorf("%q gave %d bytes", text, size)
		}
	})
}

func TestMachineIsRefusedBeforeAnythingIsMade(t *testing.T) {
	zero := 0
	for name, test := range map[string]struct {
		config testbed.Config
		want   string
	}{
		"a name that is no host name": {testbed.Config{Name: "a b"}, "DNS label"},
		"a disk that is nothing":      {testbed.Config{Disks: []testbed.Disk{{}}}, "disk 0"},
		"too many disks":              {testbed.Config{Disks: make([]testbed.Disk, 17)}, "at most 16"},
		"too little memory":           {testbed.Config{Memory: 1, CPU: &zero}, "memory"},
		"a disk file that is not there": {
			testbed.Config{Disks: []testbed.Disk{{Path: filepath.Join(t.TempDir(), "absent")}}}, "absent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := testbed.NewMachine(t.Context(), test.config)
			if err == nil {
				t.Fatalf("made %s (%v)", m.Name(), m.Close())
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
		})
	}
}
