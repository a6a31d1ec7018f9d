package disk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/disk"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// sum is that of all bytes of a disk.
func (d *drive) sum() string { return run(d.t, "sha256sum", d.image) }

// sfdisk runs a script of sfdisk on the disk and leaves the kernel's partitions alone.
func (d *drive) sfdisk(script string, args ...string) {
	d.t.Helper()
	cmd := exec.Command("sfdisk", append([]string{"--quiet", "--no-reread", "--no-tell-kernel"}, append(args, d.path)...)...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("sfdisk: %v: %s", err, out)
	}
}

func TestADiskThatIsntBlankIsNeverTaken(t *testing.T) {
	for name, spoil := range map[string]struct {
		with func(t *testing.T, d *drive)
		says string
	}{
		"a file system":      {func(t *testing.T, d *drive) { run(t, "mkfs.ext4", "-q", d.path) }, "ext4"},
		"another one":        {func(t *testing.T, d *drive) { run(t, "mkfs.btrfs", "-q", d.path) }, "btrfs"},
		"swap":               {func(t *testing.T, d *drive) { run(t, "mkswap", d.path) }, "swap"},
		"a DOS table":        {func(_ *testing.T, d *drive) { d.sfdisk("label: dos\nsize=10MiB\n") }, "dos"},
		"an empty DOS table": {func(_ *testing.T, d *drive) { d.sfdisk("label: dos\n") }, "dos"},
		"a GPT":              {func(_ *testing.T, d *drive) { d.sfdisk("label: gpt\nsize=10MiB\n") }, "isn't ours"},
		"an empty GPT":       {func(_ *testing.T, d *drive) { d.sfdisk("label: gpt\n") }, "isn't ours"},
		"a physical volume": {func(t *testing.T, d *drive) {
			run(t, "pvcreate", "-q", "--config", `devices { use_devicesfile=0 scan=["/dev"] filter=["a|`+d.path+`$|","r|.*|"] } activation { udev_sync=0 udev_rules=0 }`, d.path)
		}, "LVM2_member"},
		"data without a signature": {func(t *testing.T, d *drive) {
			f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("x"), 123456)
			must(t, err)
			must(t, f.Close())
		}, "doesn't read as zeroes"},
		"data at its end": {func(t *testing.T, d *drive) {
			f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("x"), 128*mib-1)
			must(t, err)
			must(t, f.Close())
		}, "doesn't read as zeroes"},
	} {
		t.Run(name, func(t *testing.T) {
			d, good := newDrive(t, 128*mib, 512), newDrive(t, 128*mib, 512)
			spoil.with(t, d)
			before := d.sum()
			_, err := disk.Type().New(t.Context(), config(d))
			if err == nil || !strings.Contains(err.Error(), spoil.says) || !strings.Contains(err.Error(), d.path) {
				t.Errorf("alone: %v", err)
			}
			p := open(t, config(d, good)) // the other one works
			create(t, p, raw("v", 10*mib))
			s := status(t, p)
			if s.Total != 128*mib-taken || len(s.Findings) != 1 || !strings.Contains(s.Findings[0].Message, spoil.says) {
				t.Errorf("measured %+v", s)
			}
			if d.sum() != before {
				t.Error("it was written to")
			}
		})
	}
}

func TestWhoseADiskIs(t *testing.T) {
	d := newDrive(t, 128*mib, 512)
	p := open(t, config(d))
	v := raw("v", 10*mib)
	create(t, p, v)
	id := status(t, p).UUID
	before := d.sum()
	for name, c := range map[string]struct {
		change func(c *datastore.Config)
		kind   fault.Kind
	}{
		"another cluster":             {func(c *datastore.Config) { c.ClusterID = "cluster-b" }, fault.Precondition},
		"another datastore":           {func(c *datastore.Config) { c.Datastore.Name = "slow" }, fault.Precondition},
		"another machine":             {func(c *datastore.Config) { c.MachineID = "ffffffffffffffffffffffffffffffff" }, fault.Precondition},
		"another pool in its records": {func(c *datastore.Config) { c.PoolUUID = uuid.NewString() }, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			with := config(d)
			c.change(&with)
			_, err := disk.Type().New(t.Context(), with)
			wantKind(t, err, c.kind, d.path)
			if d.sum() != before {
				t.Error("it was written to")
			}
		})
	}
	c := config(d)
	c.MachineID, c.PoolUUID = "ffffffffffffffffffffffffffffffff", id
	c.Datastore.Spec.Disk.AdoptFrom = machine
	moved := open(t, c)
	if _, err := moved.Find(t.Context(), v); err != nil {
		t.Error(err)
	}
	_, err := disk.Type().New(t.Context(), config(d))
	wantKind(t, err, fault.Precondition, "adoptFrom")
}

func TestInspectingChangesNothing(t *testing.T) {
	blank, d := newDrive(t, 128*mib, 512), newDrive(t, 128*mib, 512)
	c := config(blank)
	c.Inspect = true
	_, err := disk.Type().New(t.Context(), c)
	wantKind(t, err, fault.NotFound)
	create(t, open(t, config(d)), raw("v", 10*mib))
	before := []string{blank.sum(), d.sum()}
	c = config(blank, d)
	c.Inspect = true
	p := open(t, c)
	found, err := p.List(t.Context())
	if must(t, err); len(found) != 1 || found[0].Volume.ID != "v" || found[0].Datastore != "fast" {
		t.Errorf("listed %+v", found)
	}
	if blank.sum() != before[0] || d.sum() != before[1] {
		t.Error("a disk was written to")
	}
}

func TestNamesThatChange(t *testing.T) {
	a, b, c := newDrive(t, 200*mib, 512), newDrive(t, 200*mib, 4096), newDrive(t, 200*mib, 512)
	// Names of our own: free loop devices come in no order, since other tests take them too.
	folder := t.TempDir()
	name := func(drives ...*drive) (names []string) {
		for i, d := range drives {
			names = append(names, filepath.Join(folder, strconv.Itoa(i)))
			must(t, os.Symlink(d.path, names[i]+".new"))
			must(t, os.Rename(names[i]+".new", names[i]))
		}
		return names
	}
	before := config()
	before.Datastore.Spec.Disk.Devices = name(a, b, c)
	p := open(t, before)
	id := status(t, p).UUID
	before.PoolUUID = id
	for _, v := range []string{"x", "y", "z"} { // each fills a disk
		create(t, p, raw(v, 182*mib))
		write(t, attach(t, p, raw(v, 182*mib)), "in "+v, 182*mib)
		detach(t, p, raw(v, 182*mib))
	}
	same := func(p datastore.Pool, all ...string) {
		t.Helper()
		for _, v := range all {
			if !holds(t, attach(t, p, raw(v, 182*mib)), "in "+v, 0, 182*mib) {
				t.Errorf("volume %s is on another disk", v)
			}
			detach(t, p, raw(v, 182*mib))
		}
	}
	// The same paths lead to other disks, while the driver runs and after a restart.
	for _, d := range []*drive{a, b, c} {
		d.pull()
	}
	for _, d := range []*drive{c, a, b} {
		d.plug()
	}
	name(c, a, b)
	same(p, "x", "y", "z")
	same(open(t, before), "x", "y", "z")
	// One is pulled: its volume says so, and the others work.
	lost := ""
	locations := map[string]string{}
	for _, v := range []string{"x", "y", "z"} {
		m, err := p.Find(t.Context(), raw(v, 182*mib))
		must(t, err)
		locations[v] = m.Location
	}
	b.pull()
	for v, location := range locations {
		of := raw(v, 182*mib)
		of.Location = location
		problems, err := datastore.Examine(t.Context(), p, of)
		must(t, err)
		if len(problems) == 0 {
			continue
		}
		lost = v
		if problems[0].Status != "INACCESSIBLE" || problems[0].Reason != "DiskMissing" {
			t.Errorf("told %+v", problems)
		}
		_, err = p.Open(t.Context(), of, false)
		wantKind(t, err, fault.Unavailable)
		wantKind(t, p.Delete(t.Context(), of, datastore.Disposal{}), fault.Unavailable)
		_, err = p.Find(t.Context(), of)
		wantKind(t, err, fault.Unavailable)
		must(t, p.Close(t.Context(), of))
	}
	if lost == "" {
		t.Fatal("no volume says that its disk is gone")
	}
	for v := range locations {
		if v != lost {
			same(p, v)
		}
	}
	if s := status(t, p); s.Total != 2*182*mib || len(s.Findings) == 0 {
		t.Errorf("measured %+v", s)
	}
	// A blank disk in its place is another one. It joins, and the volume stays away until its disk is back.
	other := newDrive(t, 200*mib, 512)
	joined := config(a, c, other)
	joined.PoolUUID = id
	p = open(t, joined)
	of := raw(lost, 182*mib)
	of.Location = locations[lost]
	_, err := p.Open(t.Context(), of, false)
	wantKind(t, err, fault.Unavailable)
	create(t, p, raw("new", 182*mib))
	b.plug()
	back := config(a, c, other, b)
	back.PoolUUID = id
	same(open(t, back), "x", "y", "z")
}

func TestAPoolWhoseDisksAreAllGoneIsNotMadeAnew(t *testing.T) {
	d := newDrive(t, 128*mib, 512)
	c := config(d)
	c.PoolUUID = uuid.NewString()
	before := d.sum()
	_, err := disk.Type().New(t.Context(), c)
	wantKind(t, err, fault.Unavailable, c.PoolUUID)
	if d.sum() != before {
		t.Error("a blank disk was taken for a pool that exists")
	}
}

func TestACloneOfADiskIsLeftAlone(t *testing.T) {
	d := newDrive(t, 128*mib, 512)
	p := open(t, config(d))
	create(t, p, raw("v", 10*mib))
	clone := newDrive(t, 128*mib, 512)
	run(t, "cp", "--sparse=always", d.image, clone.image)
	run(t, "blockdev", "--flushbufs", clone.path)
	before := clone.sum()
	for name, drives := range map[string][]*drive{"behind": {d, clone}, "before": {clone, d}} {
		t.Run(name, func(t *testing.T) {
			p := open(t, config(drives...))
			device := attach(t, p, raw("v", 10*mib))
			if filepath.Dir(run(t, "readlink", "-f", "/sys/class/block/"+filepath.Base(device))) != run(t, "readlink", "-f", "/sys/class/block/"+filepath.Base(d.path)) {
				t.Errorf("it is on %s, the original on %s", device, d.path)
			}
			detach(t, p, raw("v", 10*mib))
			if s := status(t, p); len(s.Findings) != 1 || !strings.Contains(s.Findings[0].Message, "copy") {
				t.Errorf("measured %+v", s)
			}
			if clone.sum() != before {
				t.Error("the clone was written to")
			}
		})
	}
}

func TestADiskThatGrew(t *testing.T) {
	d := newDrive(t, 128*mib, 512)
	p := open(t, config(d))
	v := raw("v", 110*mib)
	create(t, p, v)
	must(t, os.Truncate(d.image, 256*mib))
	run(t, "losetup", "--set-capacity", d.path)
	if s := status(t, p); s.Total != 256*mib-taken {
		t.Errorf("measured %+v", s)
	}
	larger := raw("v", 200*mib)
	if m, err := p.Expand(t.Context(), larger); err != nil || m.Bytes != 200*mib {
		t.Errorf("grown %+v, %v", m, err)
	}
}

func TestWhatAnAdministratorDoesToATable(t *testing.T) {
	d := newDrive(t, 128*mib, 512)
	p := open(t, config(d))
	v, w := raw("v", 10*mib), raw("w", 10*mib)
	create(t, p, v)
	create(t, p, w)
	d.sfdisk("start=204800, size=20480, name=mine\n", "--append") // 10 MiB of somebody else's
	if s := status(t, p); s.Used != 30*mib || s.Own != 20*mib {
		t.Errorf("measured %+v", s)
	}
	_, err := p.Create(t.Context(), raw("x", 95*mib), nil, nil)
	wantKind(t, err, fault.Exhausted)
	run(t, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--delete", d.path, "2")
	_, err = p.Open(t.Context(), v, false)
	wantKind(t, err, fault.DataLoss, "partition 2")
	found, err := p.List(t.Context())
	must(t, err)
	for _, f := range found {
		if lost := len(f.Problems) > 0; lost != (f.Volume.ID == "v") {
			t.Errorf("listed %+v", f)
		}
	}
	// Nobody gets its place while its mark stands; deleted it is gone, though nothing was verified.
	create(t, p, raw("y", 10*mib))
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Reclaim(t.Context()))
	if _, err := p.Find(t.Context(), v); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted, found with %v", err)
	}
	if _, err := p.Find(t.Context(), w); err != nil {
		t.Error(err)
	}
}
