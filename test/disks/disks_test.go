package disks

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/disk"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const (
	mib = int64(1) << 20
	// links is where the paths lie that udev would make.
	links = "/dev/disk/by-id"
)

func TestMain(m *testing.M) {
	testbed.Inside("-disk", "1G", "-module", "loop")
	os.Exit(m.Run())
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scsi makes three SCSI disks, each on a host adapter of its own with its own memory, for the rest of the test.
func scsi(t *testing.T) {
	t.Helper()
	run(t, "modprobe", "sd_mod")
	run(t, "modprobe", "scsi_debug", "add_host=3", "per_host_store=1", "dev_size_mb=64")
	t.Cleanup(func() {
		if out, err := exec.Command("modprobe", "-r", "scsi_debug").CombinedOutput(); err != nil {
			t.Errorf("unload scsi_debug: %v: %s", err, out)
		}
	})
	found(t, 3)
}

// found waits until the kernel has found so many SCSI disks.
func found(t *testing.T, count int) {
	t.Helper()
	must(t, harness.Eventually(t.Context(), time.Minute, func() error {
		all := link(t)
		for _, path := range all { // its node may come a little later
			if _, err := blockdev.Size(path); err != nil {
				return err
			}
		}
		if len(all) != count {
			return fmt.Errorf("%d SCSI disks are there, %d should be", len(all), count)
		}
		return nil
	}))
}

// link makes what udev would: a link to each SCSI disk by its World Wide Identifier. They are returned in order.
func link(t *testing.T) []string {
	t.Helper()
	must(t, os.RemoveAll(links))
	must(t, os.MkdirAll(links, 0o755))
	all, err := filepath.Glob("/sys/block/sd*/device/wwid")
	must(t, err)
	var out []string
	for _, path := range all {
		wwid, err := os.ReadFile(path)
		must(t, err)
		to := filepath.Join(links, "wwn-"+strings.TrimSpace(string(wwid)))
		must(t, os.Symlink("/dev/"+strings.Split(path, "/")[3], to))
		out = append(out, to)
	}
	slices.Sort(out)
	return out
}

// permute takes all SCSI disks away and finds them again in another order, so that each has another name.
func permute(t *testing.T) {
	t.Helper()
	before := names(t)
	hosts, err := filepath.Glob("/sys/class/scsi_host/host*/scan")
	must(t, err)
	for range 4 {
		disks, err := filepath.Glob("/sys/block/sd*/device/delete")
		must(t, err)
		for _, path := range disks {
			must(t, os.WriteFile(path, []byte("1"), 0))
		}
		slices.Reverse(hosts)
		for i, path := range append(hosts[1:], hosts[0]) {
			must(t, os.WriteFile(path, []byte("- - -"), 0))
			found(t, i+1)
		}
		if now := names(t); len(now) == len(before) && !slices.Equal(now, before) {
			return
		}
	}
	t.Fatalf("the disks have the names that they had: %v", before)
}

// names are the kernel's names of the disks, by their World Wide Identifiers.
func names(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, l := range link(t) {
		to, err := os.Readlink(l)
		must(t, err)
		out = append(out, to)
	}
	return out
}

func config(t *testing.T, whole bool, devices ...string) datastore.Config {
	t.Helper()
	loops, err := loop.New(loop.Config{})
	must(t, err)
	return datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec:       v1alpha1.DatastoreSpec{Type: v1alpha1.TypeDisk, Disk: &v1alpha1.DiskSpec{Devices: devices, Whole: whole}},
		},
		ClusterID: "cluster-a", MachineID: "0123456789abcdef0123456789abcdef", Claims: &datastore.Claims{},
		Tools: datastore.Tools{Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	}
}

func open(t *testing.T, c datastore.Config) datastore.Pool {
	t.Helper()
	p, err := disk.Type().New(t.Context(), c)
	must(t, err)
	return p
}

func raw(id string, bytes int64) datastore.Volume {
	return datastore.Volume{
		ID: id, Name: id, UID: uuid.NewSHA1(uuid.Nil, []byte(id)).String(), ClusterID: "cluster-a", Bytes: bytes,
		Provisioning: v1alpha1.Thick, Format: v1alpha1.FormatDevice, Access: v1alpha1.Block, Modes: []string{"SINGLE_NODE_WRITER"}, Created: time.Now(),
	}
}

// write writes what only that volume holds to its device, and holds looks for it.
func write(t *testing.T, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	o, err := p.Open(t.Context(), v, false)
	must(t, err)
	f, err := os.OpenFile(o.Device, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(content(v))
	must(t, errors.Join(err, f.Sync(), f.Close(), p.Close(t.Context(), v)))
}

func holds(t *testing.T, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	o, err := p.Open(t.Context(), v, false)
	must(t, err)
	f, err := os.Open(o.Device)
	must(t, err)
	b := make([]byte, len(content(v)))
	_, err = f.ReadAt(b, 0)
	must(t, errors.Join(err, f.Close(), p.Close(t.Context(), v)))
	if !bytes.Equal(b, content(v)) {
		t.Errorf("volume %s is on another disk", v.ID)
	}
}

func content(v datastore.Volume) []byte {
	return bytes.Repeat([]byte(v.UID+"0123456789abcdef012345678..."), 1<<14)
}

func TestPartitionsWhereTheDisksChangeTheirNames(t *testing.T) {
	scsi(t)
	c := config(t, false, link(t)...)
	p := open(t, c)
	var all []datastore.Volume
	for i := range 3 { // each fills a disk
		v := raw(fmt.Sprint("v", i), 46*mib) // all that a disk of 64 MiB has for volumes
		if _, err := p.Create(t.Context(), v, nil, nil); err != nil {
			t.Fatal(err)
		}
		write(t, p, v)
		all = append(all, v)
	}
	permute(t)
	for _, v := range all {
		holds(t, p, v) // the same process
	}
	permute(t)
	p = open(t, c)
	for _, v := range all {
		holds(t, p, v)
	}
	for _, v := range all {
		must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	}
	must(t, p.Reclaim(t.Context()))
}

func TestWholeDisksThatChangeTheirNames(t *testing.T) {
	scsi(t)
	c := config(t, true, link(t)...)
	p := open(t, c)
	var all []datastore.Volume
	for i := range 3 {
		v := raw(fmt.Sprint("v", i), 50*mib)
		location, err := datastore.Choose(t.Context(), p, v, nil, all)
		must(t, err)
		if v.Location = location; !strings.Contains(location, "naa.") {
			t.Errorf("the place is %q, which is no World Wide Identifier", location)
		}
		m, err := p.Create(t.Context(), v, nil, nil)
		must(t, err)
		v.Identity = m.Identity
		write(t, p, v)
		all = append(all, v)
	}
	permute(t)
	p = open(t, c)
	for _, v := range all {
		holds(t, p, v)
	}
}

func TestADiskThatVanishesUnderItsVolume(t *testing.T) {
	scsi(t)
	c := config(t, false, link(t)...)
	p := open(t, c)
	v := raw("v", 46*mib)
	m, err := p.Create(t.Context(), v, nil, nil)
	must(t, err)
	v.Location = m.Location
	write(t, p, v)
	o, err := p.Open(t.Context(), v, false)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(run(t, "readlink", "-f", "/sys/class/block/"+filepath.Base(o.Device))), "device/delete"), []byte("1"), 0))
	link(t)
	if _, err := p.Open(t.Context(), v, false); !fault.Is(err, fault.Unavailable) {
		t.Errorf("opened with %v", err)
	}
	must(t, p.Close(t.Context(), v))
	if problems, err := datastore.Examine(t.Context(), p, v); err != nil || len(problems) != 1 || problems[0].Reason != "DiskMissing" {
		t.Errorf("told %+v, %v", problems, err)
	}
	if _, err := p.Create(t.Context(), raw("w", 46*mib), nil, nil); err != nil {
		t.Errorf("on another disk: %v", err)
	}
	hosts, err := filepath.Glob("/sys/class/scsi_host/host*/scan")
	must(t, err)
	for _, path := range hosts {
		must(t, os.WriteFile(path, []byte("- - -"), 0))
	}
	found(t, 3)
	holds(t, p, v)
}

// mapped makes a disk of device-mapper of which some sectors can't be read.
func mapped(t *testing.T, table string) string {
	t.Helper()
	const name = "lies"
	cmd := exec.CommandContext(t.Context(), "dmsetup", "create", name)
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dmsetup: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("dmsetup", "remove", name).CombinedOutput(); err != nil {
			t.Errorf("dmsetup: %v: %s", err, out)
		}
	})
	return "/dev/mapper/" + name
}

func TestReadErrorsAreNotABlankDisk(t *testing.T) {
	const sectors = 256 << 11 // 256 MiB
	for name, bad := range map[string]int{"the MBR": 0, "the table": 8, "the metadata": 4096, "a sample": sectors / 2 &^ 7, "the end": sectors - 8} {
		t.Run(name, func(t *testing.T) {
			run(t, "dd", "if=/dev/zero", "of=/dev/ubda", "bs=1M", "count=256", "conv=fsync", "status=none")
			table := ""
			if bad > 0 {
				table += fmt.Sprintf("0 %d linear /dev/ubda 0\n", bad)
			}
			table += fmt.Sprintf("%d 8 error\n", bad)
			if end := bad + 8; end < sectors {
				table += fmt.Sprintf("%d %d linear /dev/ubda %d\n", end, sectors-end, end)
			}
			if name == "a sample" {
				// Where Blank reads a sample: evenly spread.
				at := int64(sectors) * 512 / 33 * 5 &^ 4095 / 512
				table = fmt.Sprintf("0 %d linear /dev/ubda 0\n%d 8 error\n%d %d linear /dev/ubda %d\n", at, at, at+8, sectors-at-8, at+8)
			}
			path := mapped(t, table)
			for _, whole := range []bool{false, true} {
				_, err := disk.Type().New(t.Context(), config(t, whole, path))
				if whole && err != nil && strings.Contains(err.Error(), "neither a WWID") {
					continue // one of device-mapper has none
				}
				if !fault.Is(err, fault.Unavailable) {
					t.Errorf("whole %v: %v", whole, err)
				}
			}
			if out := run(t, "cmp", "--bytes", fmt.Sprint(sectors*512), "/dev/ubda", "/dev/zero"); out != "" {
				t.Errorf("it was written to: %s", out)
			}
		})
	}
}
