package mount_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestListDecodesEveryNameThatAMountPointCanHave(t *testing.T) {
	for name, base := range map[string]string{
		"spaces":           " a b ",
		"a tab":            "a\tb",
		"a newline":        "a\nb",
		"a backslash":      `a\b`,
		"an escape's text": `a\040b`,
		"a hash":           "#a",
		"a no-break space": "a\u00a0b",
		"a vertical tab":   "a\vb\rc",
		"no UTF-8":         "a\xff\xfeb",
		"a separator":      "a - b",
		"quotes":           `"a,b"`,
		"another alphabet": "том",
	} {
		t.Run(name, func(t *testing.T) {
			d := tmpfs(t, t.TempDir(), base)
			found := entries(t, d)
			if len(found) != 1 || found[0].FSType != "tmpfs" || uint64(found[0].ID) != inspect(t, d).MountID {
				t.Fatalf("not found in the table: %+v", found)
			}
			if err := mount.New(mount.Config{}).Unmount(t.Context(), d); err != nil || inspect(t, d).IsMount {
				t.Errorf("unmount: %v", err)
			}
		})
	}
}

func TestListReadsAllFields(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	for name, c := range map[string]struct {
		line string
		want mount.Entry
	}{
		"a disk": {
			"36 35 259:1048575 /sub /mnt/a rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue",
			mount.Entry{
				ID: 36, ParentID: 35, Major: 259, Minor: 1048575, Root: "/sub", MountPoint: "/mnt/a", FSType: "ext4", Source: "/dev/root",
				Options: []string{"rw", "noatime"}, SuperOptions: []string{"rw", "errors=continue"},
			},
		},
		"no source": {
			"36 35 0:5 / /mnt/a rw - tmpfs  rw",
			mount.Entry{ID: 36, ParentID: 35, Minor: 5, Root: "/", MountPoint: "/mnt/a", FSType: "tmpfs", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
		},
		"a security context": {
			`36 35 0:5 / /mnt/a rw - tmpfs t rw,context="u:r:t:s0:c1,c2",size=1k`,
			mount.Entry{
				ID: 36, ParentID: 35, Minor: 5, Root: "/", MountPoint: "/mnt/a", FSType: "tmpfs", Source: "t", Options: []string{"rw"},
				SuperOptions: []string{"rw", `context="u:r:t:s0:c1,c2"`, "size=1k"},
			},
		},
		"a source with a space": {
			`36 35 0:5 / /mnt/a rw - cifs //srv/my\040share rw`,
			mount.Entry{ID: 36, ParentID: 35, Minor: 5, Root: "/", MountPoint: "/mnt/a", FSType: "cifs", Source: "//srv/my share", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(table, []byte(c.line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := mount.New(mount.Config{MountInfo: table}).List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]mount.Entry{c.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := mount.New(mount.Config{MountInfo: table + ".no"}).List(t.Context()); err == nil {
		t.Error("a table that is not there was read")
	}
}

// rdev returns a device node's number.
func rdev(t *testing.T, dev string) (major, minor int) {
	t.Helper()
	p := inspect(t, dev)
	return int(unix.Major(p.Rdev)), int(unix.Minor(p.Rdev))
}

func TestOfDeviceFindsEveryMountOfADevice(t *testing.T) {
	for fsType, mib := range fileSystems() {
		t.Run(fsType, func(t *testing.T) {
			m, dev, other := mount.New(mount.Config{}), disk(t, fsType, mib), disk(t, fsType, mib)
			stage, publish, elsewhere := dir(t, t.TempDir(), "stage"), dir(t, t.TempDir(), "publish"), dir(t, t.TempDir(), "elsewhere")
			major, minor := rdev(t, dev)
			if found, err := m.OfDevice(t.Context(), major, minor, dev); err != nil || len(found) != 0 {
				t.Errorf("before any mount: %+v, %v", found, err)
			}
			for d, to := range map[string]string{dev: stage, other: elsewhere} {
				if err := m.Mount(t.Context(), d, to, fsType, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Bind(t.Context(), stage, publish, mount.BindOptions{}); err != nil {
				t.Fatal(err)
			}
			// The same device under another name: btrfs must be found by where its source leads.
			alias := filepath.Join(t.TempDir(), "alias")
			if err := os.Symlink(dev, alias); err != nil {
				t.Fatal(err)
			}
			for _, source := range []string{dev, alias} {
				found, err := m.OfDevice(t.Context(), major, minor, source)
				if err != nil {
					t.Fatal(err)
				}
				var points []string
				for _, e := range found {
					points = append(points, e.MountPoint)
				}
				if want := []string{stage, publish}; !slices.Equal(points, want) {
					t.Errorf("by %s: %q, want %q", source, points, want)
				}
			}
		})
	}
}

func TestOfDeviceBelievesANameOnlyWhereItLeadsNowhere(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	gone, taken := "/dev/no-such-volume", disk(t, "", 8)
	major, minor := rdev(t, taken)
	lines := "1 0 0:50 / /gone rw - btrfs " + gone + " rw\n2 0 0:51 / /taken rw - btrfs " + taken + " rw\n3 0 0:52 / /nfs rw - nfs4 srv:/x rw\n"
	if err := os.WriteFile(table, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		major, minor int
		source, want string
	}{
		"the node is gone, the name is the same":        {7, 999, gone, "/gone"},
		"the node is another device now":                {7, 999, taken, ""},
		"the node is the device, the name is different": {major, minor, "/dev/x", "/taken"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := mount.New(mount.Config{MountInfo: table}).OfDevice(t.Context(), c.major, c.minor, c.source)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range found {
				got = append(got, e.MountPoint)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzList(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("36 35 0:5 / /mnt\\040a rw -  \n")
	f.Add("\\0 \\ - - -\n")
	f.Fuzz(func(t *testing.T, table string) {
		path := filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(path, []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := mount.New(mount.Config{MountInfo: path}).List(t.Context())
		if err == nil && len(got) > strings.Count(table, "\n")+1 {
			t.Errorf("%d entries of %q", len(got), table)
		}
	})
}
