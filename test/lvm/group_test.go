package lvm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, g *lvm.Group) *lvm.VolumeGroup {
	t.Helper()
	vg, err := g.View(t.Context())
	must(t, err)
	return vg
}

// same tells whether what a group knows is what LVM reports.
func same(t *testing.T, g *lvm.Group, after string) {
	t.Helper()
	known := view(t, g)
	fresh, err := g.Fresh(t.Context())
	must(t, err)
	if known.Seqno != fresh.Seqno || known.FreeExtents != fresh.FreeExtents || len(known.LVs) != len(fresh.LVs) || !slices.Equal(slices.Sorted(slices.Values(known.Tags)), fresh.Tags) {
		t.Fatalf("after %s: known %+v, LVM says %+v", after, known, fresh)
	}
	if known.Layout && !slices.Equal(lvm.Union(known.Free), lvm.Union(fresh.Free)) {
		t.Errorf("after %s: free extents known as %v, LVM says %v", after, known.Free, fresh.Free)
	}
	for name, k := range known.LVs {
		f := fresh.LVs[name]
		if k.Kind != f.Kind || k.Bytes != f.Bytes || !slices.Equal(slices.Sorted(slices.Values(k.Tags)), f.Tags) || k.Origin != f.Origin || k.Pool != f.Pool ||
			k.Active != f.Active || k.ReadOnly != f.ReadOnly || k.ActivationSkipped != f.ActivationSkipped {
			t.Errorf("after %s: %s known as %+v, LVM says %+v", after, name, k, f)
		}
	}
}

func TestALifeOfAThickVolumeIsACallForEachChange(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 2)
	ctx := t.Context()
	vg := view(t, g)
	on, _ := lvm.Pick(vg.Free, 10, 1)
	for _, c := range []struct {
		what  string
		calls int64
		do    func() error
	}{
		{"create", 1, func() error {
			return g.Create(ctx, lvm.NewVolume{Name: "a", Bytes: 40 * mib, Tags: []string{"x", "y=1&z!2C"}, On: on})
		}},
		{"create where LVM chooses", 1, func() error { return g.Create(ctx, lvm.NewVolume{Name: "b", Bytes: 1, Active: true}) }},
		{"tag", 1, func() error {
			return g.Retag(ctx, lvm.Retag{Name: "a", Add: []string{"new"}, Remove: []string{"x", "not there"}})
		}},
		{"tag as it is", 0, func() error { return g.Retag(ctx, lvm.Retag{Name: "a", Add: []string{"new"}}) }},
		{"tag and deactivate", 1, func() error { return g.Retag(ctx, lvm.Retag{Name: "b", Add: []string{"t"}, Deactivate: true}) }},
		{"activate", 1, func() error { return g.Activate(ctx, "a") }},
		{"tag the group", 1, func() error { return g.TagGroup(ctx, []string{"g"}, nil) }},
	} {
		if n := m.counted(func() { must(t, c.do()) }); n != c.calls {
			t.Errorf("%s takes %d calls, want %d", c.what, n, c.calls)
		}
		if n := m.counted(func() { view(t, g) }); n != 0 {
			t.Errorf("to look after %s takes %d calls", c.what, n)
		}
		same(t, g, c.what)
	}
	if epoch := view(t, g).Epoch; epoch != 1 {
		t.Errorf("its own changes are taken for another's: epoch %d", epoch)
	}
	a, err := g.Volume(ctx, "a")
	must(t, err)
	device, err := lvm.FindDevice(g.UUID(), a.UUID)
	must(t, err)
	if size, err := blockdev.Size(device.Path); size != 40*mib || err != nil || device.Opens != 0 || device.Suspended {
		t.Errorf("%+v of %d bytes, %v", device, size, err)
	}
	must(t, g.Extend(ctx, "a", 50*mib, nil))
	same(t, g, "extend")
	if size, err := blockdev.Size(device.Path); size != 52*mib || err != nil {
		t.Errorf("%d bytes after it grew, %v", size, err)
	}
	must(t, g.Rename(ctx, "a", "c"))
	same(t, g, "rename")
	must(t, g.Deactivate(ctx, "c"))
	if _, err := lvm.FindDevice(g.UUID(), a.UUID); !fault.Is(err, fault.NotFound) {
		t.Errorf("deactivated: %v", err)
	}
	if n := m.counted(func() { must(t, g.Remove(ctx, lvm.Removal{Discard: true}, "b", "c", "never there")) }); n != 1 {
		t.Errorf("removing two takes %d calls", n)
	}
	same(t, g, "remove")
	if n := m.counted(func() { must(t, g.Remove(ctx, lvm.Removal{}, "b")) }); n != 0 {
		t.Errorf("removing what is gone takes %d calls", n)
	}
}

func TestALifeOfThinVolumes(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 1)
	ctx := t.Context()
	must(t, g.CreatePool(ctx, lvm.NewPool{Name: "pool", Bytes: 60 * mib, MetadataBytes: 4 * mib, ChunkBytes: 64 << 10, Tags: []string{"p"}}))
	if p := view(t, g).LVs["pool"]; p.Kind != lvm.ThinPool || !p.Zeroing || p.MetadataBytes != 4*mib || p.ChunkBytes != 64<<10 {
		t.Errorf("pool %+v", p)
	}
	for _, n := range []lvm.NewThin{
		{Name: "t", Pool: "pool", Bytes: gib, Tags: []string{"x"}},
		{Name: "snap", Pool: "pool", Origin: "t", ReadOnly: true},
		{Name: "clone", Pool: "pool", Origin: "snap", Active: true},
		{Name: "clone2", Pool: "pool", Origin: "clone"},
	} {
		if calls := m.counted(func() { must(t, g.CreateThin(ctx, n)) }); calls != 1 {
			t.Errorf("%s takes %d calls", n.Name, calls)
		}
		same(t, g, "make "+n.Name)
	}
	clone, err := g.Volume(ctx, "clone")
	must(t, err)
	if _, err := lvm.FindDevice(g.UUID(), clone.UUID); err != nil {
		t.Error(err)
	}
	must(t, g.Extend(ctx, "clone", 2*gib, nil))
	same(t, g, "extend")
	must(t, g.ExtendPool(ctx, "pool", 100*mib, 8*mib))
	same(t, g, "extend the pool")
	for _, order := range [][]string{{"t"}, {"clone"}, {"snap", "clone2"}} {
		if n := m.counted(func() { must(t, g.Remove(ctx, lvm.Removal{}, order...)) }); n != 1 {
			t.Errorf("removing %v takes %d calls", order, n)
		}
		same(t, g, "remove "+strings.Join(order, ","))
	}
}

func TestAChangeByHandIsSeen(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 1)
	view(t, g)
	before := view(t, g).Epoch
	run(t, "lvcreate", "-y", "-n", "byhand", "-L", "8M", "--addtag", "theirs", "vg")
	if lv := view(t, g).LVs["byhand"]; lv.Bytes != 8*mib || !lv.HasTag("theirs") {
		t.Errorf("after lvcreate: %+v", lv)
	}
	if view(t, g).Epoch == before {
		t.Error("what is known of free extents holds on")
	}
	// In the middle of a change of ours: it is looked at again rather than computed.
	must(t, g.Create(t.Context(), lvm.NewVolume{Name: "ours", Bytes: mib}))
	run(t, "lvremove", "-y", "vg/byhand")
	must(t, g.Retag(t.Context(), lvm.Retag{Name: "ours", Add: []string{"t"}}))
	same(t, g, "a removal by hand")
	run(t, "vgrename", "vg", "renamed")
	must(t, g.Retag(t.Context(), lvm.Retag{Name: "ours", Add: []string{"u"}}))
	if vg := view(t, g); vg.Name != "renamed" || !vg.LVs["ours"].HasTag("u") {
		t.Errorf("after vgrename: %+v", vg)
	}
	run(t, "vgrename", "renamed", "vg")
}

// vgcfgrestore gives the metadata the number behind that of its backup, which the group may have by now.
func TestMetadataThatIsRestoredIsSeen(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 1)
	must(t, g.Create(t.Context(), lvm.NewVolume{Name: "kept", Bytes: mib}))
	view(t, g)
	backup := filepath.Join(t.TempDir(), "backup")
	run(t, "vgcfgbackup", "-f", backup, "vg")
	must(t, g.Remove(t.Context(), lvm.Removal{}, "kept"))
	removed := view(t, g)
	if _, there := removed.LVs["kept"]; there {
		t.Fatal("it was not removed")
	}
	run(t, "vgcfgrestore", "-y", "-f", backup, "vg")
	restored := view(t, g)
	if _, there := restored.LVs["kept"]; !there || restored.Epoch == removed.Epoch {
		t.Errorf("number %d, was %d; epoch %d, was %d; it is not seen", restored.Seqno, removed.Seqno, restored.Epoch, removed.Epoch)
	}
}

func TestWhatIsRefused(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 1)
	ctx := t.Context()
	must(t, g.Create(ctx, lvm.NewVolume{Name: "a", Bytes: 8 * mib, Active: true}))
	a, err := g.Volume(ctx, "a")
	must(t, err)
	device, err := lvm.FindDevice(g.UUID(), a.UUID)
	must(t, err)
	f, err := os.Open(device.Path)
	must(t, err)
	for name, c := range map[string]struct {
		do   func() error
		want fault.Kind
	}{
		"a name that is taken":         {func() error { return g.Create(ctx, lvm.NewVolume{Name: "a", Bytes: mib}) }, fault.Exists},
		"more than there is":           {func() error { return g.Create(ctx, lvm.NewVolume{Name: "b", Bytes: 99 * gib}) }, fault.Exhausted},
		"growth beyond what there is":  {func() error { return g.Extend(ctx, "a", 99*gib, nil) }, fault.Exhausted},
		"removing what is open":        {func() error { return g.Remove(ctx, lvm.Removal{}, "a") }, fault.Precondition},
		"deactivating what is open":    {func() error { return g.Deactivate(ctx, "a") }, fault.Precondition},
		"tagging what isn't there":     {func() error { return g.Retag(ctx, lvm.Retag{Name: "x", Add: []string{"t"}}) }, fault.NotFound},
		"a tag that LVM doesn't take":  {func() error { return g.Retag(ctx, lvm.Retag{Name: "a", Add: []string{"a,b"}}) }, fault.Invalid},
		"a name that LVM doesn't take": {func() error { return g.Create(ctx, lvm.NewVolume{Name: "-x", Bytes: mib}) }, fault.Invalid},
		"a group on a disk in use":     {func() error { return lvm.MakeGroup(ctx, m.runner, "other", disks()[:1], nil) }, fault.Internal},
	} {
		if err := c.do(); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, fault.KindOf(err), err)
		}
	}
	must(t, f.Close())
	must(t, g.SnapshotThick(ctx, "snap", "a", 4*mib, []string{"s"}))
	same(t, g, "snapshot")
	if err := g.Remove(ctx, lvm.Removal{}, "a"); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "snap") {
		t.Errorf("removing what has a snapshot: %v", err)
	}
	if err := g.Extend(ctx, "a", 16*mib, nil); !fault.Is(err, fault.Precondition) {
		t.Errorf("growing what has a snapshot: %v", err)
	}
	must(t, g.Remove(ctx, lvm.Removal{}, "snap"))
	must(t, g.Remove(ctx, lvm.Removal{}, "a"))
}

func TestWhatAGuestMakesInItsVolumeIsNotSeen(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 1)
	ctx := t.Context()
	must(t, g.Create(ctx, lvm.NewVolume{Name: "guest", Bytes: 100 * mib, Active: true}))
	lv, err := g.Volume(ctx, "guest")
	must(t, err)
	device, err := lvm.FindDevice(g.UUID(), lv.UUID)
	must(t, err)
	inside := []string{"--config", `devices{scan_lvs=1 dir="` + t.TempDir() + `" scan=["/dev"]}`, "--devices", device.Path}
	run(t, "pvcreate", append(inside, "-y", device.Path)...)
	run(t, "vgcreate", append(inside, "vg", device.Path)...)
	run(t, "lvcreate", append(inside, "-an", "-Wn", "-Zn", "-n", "guest", "-L", "8M", "vg")...)
	before := run(t, "sha256sum", device.Path)
	must(t, g.Create(ctx, lvm.NewVolume{Name: "b", Bytes: 8 * mib}))
	must(t, g.Retag(ctx, lvm.Retag{Name: "guest", Add: []string{"t"}}))
	must(t, g.Remove(ctx, lvm.Removal{}, "b"))
	fresh, err := g.Fresh(ctx)
	must(t, err)
	if len(fresh.LVs) != 1 || fresh.LVs["guest"].Bytes != 100*mib {
		t.Errorf("the host sees %+v", fresh.LVs)
	}
	if after := run(t, "sha256sum", device.Path); after != before {
		t.Error("the guest's bytes have changed")
	}
	must(t, g.Remove(ctx, lvm.Removal{}, "guest"))
}

func TestManyCallersAndNothingLeftBehind(t *testing.T) {
	m := newMachine()
	g := newGroup(t, m, 2)
	ctx := t.Context()
	backups := countFiles("/etc/lvm/archive") + countFiles("/etc/lvm/backup")
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for n := range 3 {
				name := fmt.Sprintf("v%d-%d", caller, n)
				if err := g.Create(ctx, lvm.NewVolume{Name: name, Bytes: 4 * mib, Active: n == 1}); err != nil {
					t.Error(err)
				}
				if n == 2 {
					if err := g.Remove(ctx, lvm.Removal{}, name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	same(t, g, "all")
	if vg := view(t, g); len(vg.LVs) != 16 {
		t.Errorf("%d volumes", len(vg.LVs))
	}
	if out := run(t, "dmsetup", "udevcookies"); strings.Count(out, "\n") > 0 {
		t.Errorf("cookies of udev: %s", out)
	}
	if n := countFiles("/etc/lvm/archive") + countFiles("/etc/lvm/backup") - backups; n != 0 {
		t.Errorf("%d backups of metadata were made", n)
	}
}

func TestADeviceIsMissingAndComesBack(t *testing.T) {
	m := newMachine()
	whole := newGroup(t, m, 3)
	ctx := t.Context()
	free := view(t, whole)
	first := lvm.Range{PV: free.PVs[0].UUID, Count: 4}
	last := lvm.Range{PV: free.PVs[2].UUID, Count: 4}
	must(t, whole.Create(ctx, lvm.NewVolume{Name: "here", Bytes: 16 * mib, On: []lvm.Range{first}}))
	must(t, whole.Create(ctx, lvm.NewVolume{Name: "gone", Bytes: 16 * mib, On: []lvm.Range{last}}))
	must(t, whole.Create(ctx, lvm.NewVolume{Name: "raid", Bytes: 16 * mib, Shape: lvm.Shape{Segment: "raid5", Stripes: 2}, Active: true}))
	must(t, whole.Deactivate(ctx, "raid"))
	torn := groupOn(t, m, disks()[:2])
	vg := view(t, torn)
	if vg.MissingPVs != 1 || vg.LVs["here"].Health != lvm.Sound || vg.LVs["gone"].Health != lvm.Partial || vg.LVs["raid"].Health != lvm.Partial {
		t.Errorf("here %q, gone %q, raid %q", vg.LVs["here"].Health, vg.LVs["gone"].Health, vg.LVs["raid"].Health)
	}
	must(t, torn.Activate(ctx, "here"))
	must(t, torn.Activate(ctx, "raid"))
	if err := torn.Activate(ctx, "gone"); err == nil {
		t.Error("a volume without its device was activated")
	}
	if err := torn.Create(ctx, lvm.NewVolume{Name: "new", Bytes: mib}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("create on a group that lacks a device: %v", err)
	}
	must(t, torn.Deactivate(ctx, "raid"))
	must(t, whole.Activate(ctx, "gone"))
	fresh, err := whole.Fresh(ctx)
	must(t, err)
	if fresh.MissingPVs != 0 || fresh.LVs["gone"].Health != lvm.Sound {
		t.Errorf("after it came back: %+v", fresh)
	}
}

// A disk of device-mapper, as multipath and crypt make them, has two names; without udev each is a node of its own.
func TestADiskOfDeviceMapperIsFoundByEachOfItsNames(t *testing.T) {
	m := newMachine()
	cleanDisks(t)
	t.Cleanup(func() { cleanDisks(t) })
	run(t, "dmsetup", "create", "mapped", "--table", "0 204800 linear "+disks()[0]+" 0")
	run(t, "vgcreate", "--devices", "/dev/mapper/mapped", "vg", "/dev/mapper/mapped")
	for _, name := range []string{"/dev/mapper/mapped", "/dev/dm-0"} {
		seen, err := lvm.Scan(t.Context(), m.runner, []string{name})
		if err != nil || len(seen) != 1 || seen[0].Device != name || seen[0].Group != "vg" {
			t.Errorf("on %s is seen %+v, %v", name, seen, err)
		}
	}
}

func countFiles(dir string) int {
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(names)
}
