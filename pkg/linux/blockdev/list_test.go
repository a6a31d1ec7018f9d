package blockdev_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

func TestDevicesAreListedWithWhatTheyAre(t *testing.T) {
	device := attach(t, 64<<20)
	for _, c := range [][]string{{"sh", "-c", `printf 'label:gpt\nsize=20M\nsize=10M\n' | sfdisk -q "$0"`, device}, {"partx", "-a", device}} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("partx", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	readOnly, empty := attach(t, 1<<20, "-r"), attach(t, 0)
	all, err := blockdev.List()
	if err != nil {
		t.Fatal(err)
	}
	find := func(path string) *blockdev.Listed {
		i := slices.IndexFunc(all, func(d blockdev.Listed) bool { return d.Path == path })
		if i < 0 {
			return nil
		}
		return &all[i]
	}
	name := filepath.Base(device)
	d := find(device)
	if d == nil || d.Bytes != 64<<20 || d.Major != 7 || d.Disk != "" || d.ReadOnly || filepath.Base(d.Backing) != "disk.img" ||
		!slices.Equal(d.Partitions, []string{name + "p1", name + "p2"}) {
		t.Errorf("the disk: %+v", d)
	}
	if p := find(device + "p1"); p == nil || p.Bytes != 20<<20 || p.Disk != name || len(p.Partitions) > 0 {
		t.Errorf("its partition: %+v", p)
	}
	if r := find(readOnly); r == nil || !r.ReadOnly {
		t.Errorf("protected from writes: %+v", r)
	}
	if e := find(empty); e != nil {
		t.Errorf("without a size: %+v", e)
	}
}

func TestNamesThatStaySayMostFirst(t *testing.T) {
	device := attach(t, 1<<20)
	major, minor, err := blockdev.Number(device)
	if err != nil {
		t.Fatal(err)
	}
	// As udev makes them; the folders may be there.
	for _, link := range []string{"by-path/test-9", "by-id/test-serial", "by-partuuid/test-0123", "by-id/wwn-test"} {
		path := filepath.Join("/dev/disk", link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(device, path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			_ = os.Remove(filepath.Dir(path)) // unless others' are in it
			_ = os.Remove("/dev/disk")
		})
	}
	want := []string{"/dev/disk/by-id/wwn-test", "/dev/disk/by-partuuid/test-0123", "/dev/disk/by-id/test-serial", "/dev/disk/by-path/test-9"}
	if got := blockdev.Links()[unix.Mkdev(major, minor)]; !slices.Equal(got, want) {
		t.Errorf("names %v", got)
	}
}
