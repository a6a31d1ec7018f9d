package discover

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

const mib = 1 << 20

func do(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// disk makes a loop device of a new sparse file.
func disk(t *testing.T, size int64, options ...string) (device, image string) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	device = do(t, append([]string{"losetup", "-f", "--show", image}, options...)...)
	if len(options) == 0 {
		do(t, "blockdev", "--setrw", device)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	return device, image
}

// found is what is found of a device.
func found(t *testing.T, device string) Found {
	t.Helper()
	all, err := look(t.Context(), command.New(command.Config{}))
	must(t, err)
	i := slices.IndexFunc(all, func(f Found) bool { return f.Device == device && f.Kind != Filesystem })
	if i < 0 {
		t.Fatalf("nothing of %s is found", device)
	}
	return all[i]
}

func TestWhatADeviceCouldBecome(t *testing.T) {
	for name, c := range map[string]struct {
		put   func(t *testing.T, device, image string)
		holds string
		types string
		why   string
	}{
		"blank":        {func(*testing.T, string, string) {}, "", "partition, disk, lvm", ""},
		"with an ext4": {func(t *testing.T, d, _ string) { do(t, "mkfs.ext4", "-q", "-L", "mine", d) }, `ext4 "mine"`, "partition", ""},
		"with swap":    {func(t *testing.T, d, _ string) { do(t, "mkswap", d) }, "swap", "", "it bears swap"},
		"with bytes": {func(t *testing.T, d, _ string) {
			do(t, "dd", "if=/dev/urandom", "of="+d, "bs=4096", "count=1", "seek=100")
		}, "data without a signature", "", "doesn't read as zeroes"},
		"with a table of GPT":  {func(t *testing.T, d, _ string) { do(t, "sh", "-c", "printf 'label:gpt\\n' | sfdisk -q "+d) }, "gpt", "", "it bears gpt"},
		"part of a RAID":       {func(t *testing.T, d, _ string) { raid(t, d) }, "linux_raid_member", "", "it bears linux_raid_member"},
		"with two signatures":  {func(t *testing.T, d, _ string) { two(t, d) }, unknown, "", "not clear what is on it"},
		"with an xfs, mounted": {mountXFS, "xfs", "", "mounted on "},
	} {
		t.Run(name, func(t *testing.T) {
			size := int64(32 * mib)
			if strings.Contains(name, "xfs") {
				size = 300 * mib // its least
			}
			device, image := disk(t, size)
			c.put(t, device, image)
			before := do(t, "sha256sum", image)
			f := found(t, device)
			if f.Kind != Disk || f.Bytes != size || f.Holds != c.holds || join(f.Types) != c.types || !f.hidden {
				t.Errorf("found %+v", f)
			}
			if why := strings.Join(f.Why, "; "); (c.why == "") != (why == "") || !strings.Contains(why, c.why) {
				t.Errorf("why not: %q", why)
			}
			if do(t, "sha256sum", image) != before {
				t.Error("it was changed")
			}
		})
	}
}

func mountXFS(t *testing.T, device, _ string) {
	t.Helper()
	do(t, "mkfs.xfs", "-q", device)
	at := t.TempDir()
	must(t, unix.Mount(device, at, "xfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
	do(t, "sync", "--file-system", at)
}

// raid writes the superblock of md's version 1.2, as far as blkid looks.
func raid(t *testing.T, device string) {
	t.Helper()
	b := make([]byte, 4096)
	copy(b, []byte{0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0}) // magic, major version (md(4), linux/raid/md_p.h)
	b[128+16] = 8                                       // super_offset, in sectors
	put(t, device, 4096, b)
}

// two gives a device the superblocks of ext4 and xfs at once.
func two(t *testing.T, device string) {
	t.Helper()
	do(t, "mkfs.ext4", "-q", device)
	put(t, device, 0, []byte("XFSB"))
}

func put(t *testing.T, device string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func TestAWriteProtectedDeviceIsRefused(t *testing.T) {
	device, _ := disk(t, 10*mib, "-r")
	if f := found(t, device); len(f.Types) > 0 || !slices.Contains(f.Why, "read-only") {
		t.Errorf("found %+v", f)
	}
	do(t, "blockdev", "--setrw", device)
}

func TestPartitionsStandForThemselves(t *testing.T) {
	device, _ := disk(t, 64*mib)
	do(t, "sh", "-c", "printf 'label:gpt\\nsize=20M\\nsize=20M\\n' | sfdisk -q "+device)
	do(t, "partx", "-a", device)
	t.Cleanup(func() { do2(t, "partx", "-d", device) })
	for _, p := range []string{"p1", "p2"} { // without udev nobody makes the nodes but devtmpfs
		if _, err := os.Stat(device + p); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "mkfs.ext4", "-q", device+"p2")
	if f := found(t, device); len(f.Types) > 0 || !strings.Contains(strings.Join(f.Why, ";"), "p1") {
		t.Errorf("the disk: %+v", f)
	}
	if f := found(t, device+"p1"); f.Kind != Partition || join(f.Types) != "partition, lvm" || f.Bytes != 20*mib {
		t.Errorf("blank: %+v", f)
	}
	if f := found(t, device+"p2"); f.Holds != "ext4" || join(f.Types) != "partition" {
		t.Errorf("with ext4: %+v", f)
	}
}

// do2 is do at the end of a test.
func do2(t *testing.T, argv ...string) {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%q: %v: %s", argv, err, out)
	}
}

func TestMountedFileSystemsCanHoldADirectory(t *testing.T) {
	device, _ := disk(t, 400*mib)
	mountXFS(t, device, "")
	all, err := look(t.Context(), command.New(command.Config{}))
	must(t, err)
	i := slices.IndexFunc(all, func(f Found) bool { return f.Device == device && f.Kind == Filesystem })
	if i < 0 {
		t.Fatal("it is not found")
	}
	// The test's folder lies in /tmp, which is the system's own.
	if f := all[i]; f.Holds != "xfs" || f.Bytes == 0 || f.Free == 0 || filepath.Base(f.Path) != ownFolder || !f.hidden || len(f.Types) > 0 {
		t.Errorf("found %+v", f)
	}
}

func sample() []Found {
	s := []Found{
		{
			Kind: Disk, Name: "sdb", Path: "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4", Device: "/dev/sdb", Bytes: 4 << 40, Model: "SSD", Serial: "S1",
			of: []v1alpha1.DatastoreType{v1alpha1.TypePartition, v1alpha1.TypeDisk, v1alpha1.TypeLVM},
		},
		{Kind: Disk, Name: "sdc", Path: "/dev/sdc", Device: "/dev/sdc", Bytes: 1 << 40, of: []v1alpha1.DatastoreType{v1alpha1.TypeDisk}},
		{
			Kind: Partition, Name: "sda1", Path: "/dev/disk/by-partuuid/0123", Device: "/dev/sda1", Holds: "ext4", Bytes: 1 << 30,
			of: []v1alpha1.DatastoreType{v1alpha1.TypePartition}, Why: []string{"mounted on /boot\nkind: evil"},
		},
	}
	for i := range s {
		s[i].spec = s[i].deviceSpec
		s[i].settle()
	}
	return s
}

// What is printed as documents is what the driver reads.
func TestDocumentsCanBeUsed(t *testing.T) {
	for _, only := range []v1alpha1.DatastoreType{"", v1alpha1.TypePartition, v1alpha1.TypeDisk, v1alpha1.TypeLVM} {
		var out bytes.Buffer
		must(t, write(&out, YAML, only, sample()[:1]))
		docs, err := v1alpha1.DecodeDatastores(bytes.NewReader(out.Bytes()))
		must(t, err)
		if len(docs) != 1 || docs[0].Err != nil {
			t.Fatalf("%+v in\n%s", docs, out.String())
		}
		d := docs[0].Datastore
		want := only
		if want == "" {
			want = v1alpha1.TypePartition
		}
		if d.Name != "sdb" || d.Spec.Type != want {
			t.Errorf("a datastore %+v", d)
		}
	}
	var out bytes.Buffer
	must(t, write(&out, YAML, "", append(sample(), sample()[0])))
	docs, err := v1alpha1.DecodeDatastores(bytes.NewReader(out.Bytes()))
	must(t, err)
	if len(docs) != 2 || docs[1].Datastore.Name != "sdb-2" || strings.Contains(out.String(), "\nkind: evil") {
		t.Errorf("%d documents:\n%s", len(docs), out.String())
	}
}

func TestTheTableAndJSON(t *testing.T) {
	var table, text bytes.Buffer
	must(t, write(&table, parts.Table, "", sample()))
	lines := strings.Split(table.String(), "\n")
	if got := strings.Join(strings.Fields(lines[1]), " "); got != "disk /dev/disk/by-id/wwn-0x5000c500a1b2c3d4 /dev/sdb 4.0Ti - nothing partition, disk, lvm" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(lines[2], "may be another device after the next boot") {
		t.Errorf("a device without a name that stays: %q", lines[2])
	}
	must(t, write(&text, parts.JSON, "", sample()))
	var back []Found
	must(t, json.Unmarshal(text.Bytes(), &back))
	if len(back) != 3 || back[0].Serial != "S1" || len(back[0].Types) != 3 || back[2].Why[0] != "mounted on /boot\nkind: evil" {
		t.Errorf("%+v", back)
	}
	text.Reset()
	must(t, write(&text, parts.JSON, "", nil))
	if strings.TrimSpace(text.String()) != "[]" {
		t.Errorf("nothing is %s", text.String())
	}
}

func TestOptionsSayWhatIsAllowed(t *testing.T) {
	for _, o := range []Options{{Type: "floppy", Format: parts.Table}, {Format: "xml"}} {
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "allowed") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, kind := range types() {
		var out bytes.Buffer
		must(t, Run(t.Context(), Options{Type: kind, Format: parts.JSON, All: true, Out: &out}))
		var all []Found
		must(t, json.Unmarshal(out.Bytes(), &all))
		for _, f := range all {
			if len(f.Types) > 0 && !slices.Contains(f.Types, v1alpha1.DatastoreType(kind)) {
				t.Errorf("--type %s has %+v", kind, f)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"nvme0n1p1": "nvme0n1p1", "VG_data": "vg-data", "--": "datastore", "srv/fast": "srv-fast", strings.Repeat("a", 70): strings.Repeat("a", 63)} {
		if got := nameOf(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
