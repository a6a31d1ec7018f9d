package lvm

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

func someMark() mark {
	return mark{
		Volume: datastore.Volume{
			ID: "pvc-1", Name: "pvc-1", UID: "0a1b2c3d-0000-0000-0000-000000000000", ClusterID: "cluster", Bytes: 1 << 30, Format: v1alpha1.FormatDevice,
			Access: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY"},
			Filesystem: &v1alpha1.FilesystemSpec{Type: "xfs", UUID: "ffffffff-0000-0000-0000-000000000000", MkfsOptions: []string{"-m", "reflink=1"}},
			Labels:     map[string]string{"datastore-csi.io/pvc-name": "data", "other/label": "", "späte": "ä=&!,"},
			Parameters: map[string]string{"datastore": "fast", "empty": ""}, Created: time.Unix(1700000000, 12345).UTC(),
			OnDelete: v1alpha1.RetainData, Wipe: v1alpha1.WipeZero, Redundancy: v1alpha1.Mirror, Stripes: 2,
		},
	}
}

func TestAMarkSaysWhatItWasToldWhatever(t *testing.T) {
	snapshot := someMark()
	snapshot.Snapshot, snapshot.SourceID, snapshot.SnapshotSize, snapshot.Promised = true, "pvc-0", "20%", 1<<20
	snapshot.Source = &datastore.Volume{ID: "pvc-0", UID: "u", ClusterID: "cluster"}
	snapshot.TakenAt = time.Unix(1700000001, 0).UTC()
	long := someMark()
	long.Labels = map[string]string{}
	for i := range 200 {
		long.Labels[strings.Repeat("key", i%20)+string(rune('a'+i))] = strings.Repeat("wert ü", 9)
	}
	named := someMark()
	named.Name, named.Filesystem, named.Modes, named.Labels, named.Parameters = "another name", nil, nil, nil, nil
	for name, m := range map[string]mark{"a volume": someMark(), "a snapshot": snapshot, "one with many labels": long, "one with a name": named} {
		t.Run(name, func(t *testing.T) {
			tags := m.tags()
			for _, tag := range tags {
				if len(tag) > lvm.MaxTag || strings.ContainsAny(tag, ", \"") {
					t.Errorf("tag of %d bytes: %s", len(tag), tag)
				}
			}
			slices.Reverse(tags)
			got, err := readMark(append([]string{"foreign", makingTag}, tags...))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("\n%+v\n%+v", got, m)
			}
		})
	}
}

func TestMarksThatMakeNoSense(t *testing.T) {
	tags := someMark().tags()
	one := tags[0]
	for name, c := range map[string]struct {
		tags []string
		want fault.Kind
	}{
		"none":                   {[]string{"foreign"}, fault.NotFound},
		"one piece of two":       {[]string{strings.Replace(one, "1.1=", "1.2=", 1)}, fault.Precondition},
		"a piece twice":          {[]string{one, one}, fault.Precondition},
		"a piece of nothing":     {[]string{markTag + "1.1="}, fault.Precondition},
		"no number":              {[]string{markTag + "x.1=v=1"}, fault.Precondition},
		"piece 2 of 1":           {[]string{markTag + "2.1=v=1"}, fault.Precondition},
		"a million pieces":       {[]string{markTag + "1.1000000=v=1"}, fault.Precondition},
		"a later layout":         {[]string{strings.Replace(one, "v=1", "v=2", 1)}, fault.Precondition},
		"no fields":              {[]string{markTag + "1.1=hello"}, fault.Precondition},
		"a field twice":          {[]string{markTag + "1.1=v=1&v=1"}, fault.Precondition},
		"a size that is none":    {[]string{strings.Replace(one, "b=1073741824", "b=x", 1)}, fault.Precondition},
		"a time that is none":    {[]string{strings.Replace(one, "&t=", "&t=!21", 1)}, fault.Precondition},
		"a name that can't be":   {[]string{strings.Replace(one, "i=pvc-1", "i=../x", 1)}, fault.Invalid},
		"an escape that is none": {[]string{strings.Replace(one, "i=pvc-1", "i=!zz", 1)}, fault.Precondition},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := readMark(c.tags); !fault.Is(err, c.want) {
				t.Errorf("%+v, %v, %v", m, fault.KindOf(err), err)
			}
		})
	}
}

func FuzzMark(f *testing.F) {
	f.Add(someMark().tags()[0])
	f.Fuzz(func(t *testing.T, tag string) {
		m, err := readMark([]string{tag})
		if err != nil {
			return
		}
		again, err := readMark(m.tags())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%v\n%+v\n%+v", err, m, again)
		}
	})
}

func TestTheMarkerIsReadAndJudged(t *testing.T) {
	d := &v1alpha1.Datastore{Spec: v1alpha1.DatastoreSpec{LVM: &v1alpha1.LVMSpec{}}}
	d.Name = "fast"
	c := datastore.Config{Datastore: d, ClusterID: "cluster", MachineID: "machine", Host: "node-1"}
	c.Tools.NewUUID, c.Tools.Now = func() string { return "pool" }, func() time.Time { return time.Unix(1700000000, 0) }
	m := newMarker(c)
	got, err := readMarker([]string{"foreign", m.tag()}, "volume group vg")
	if err != nil || !got.samePool(m) || got.Host != "node-1" || !got.Created.Equal(m.Created) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(*datastore.Config, *v1alpha1.Datastore){
		"another cluster":   func(c *datastore.Config, _ *v1alpha1.Datastore) { c.ClusterID = "x" },
		"another datastore": func(_ *datastore.Config, d *v1alpha1.Datastore) { d.Name = "x" },
		"another machine":   func(c *datastore.Config, _ *v1alpha1.Datastore) { c.MachineID = "x" },
		"another pool":      func(c *datastore.Config, _ *v1alpha1.Datastore) { c.PoolUUID = "x" },
	} {
		changed, with := *d.DeepCopy(), c
		with.Datastore = &changed
		change(&with, &changed)
		if err := m.judge(with, "vg"); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	moved := c
	moved.MachineID = "new"
	moved.Datastore = d.DeepCopy()
	moved.Datastore.Spec.LVM.AdoptFrom = "machine"
	if err := m.judge(moved, "vg"); err != nil {
		t.Errorf("a disk that was moved: %v", err)
	}
	for name, tags := range map[string][]string{"none": nil, "two": {m.tag(), markerTag + "v=1&p=x"}, "half": {m.tag()[:20]}, "a later layout": {markerTag + "v=9&p=x"}} {
		if m, err := readMarker(tags, "vg"); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestNamesThatLVMKeepsForItself(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"pvc-1", "snapshot-1", "pvmove0", "a_tdata", "v-1"} {
		for _, snapshot := range []bool{false, true} {
			name := lvName(datastore.Volume{ID: id, UID: "0a1b2c3d-0000", Snapshot: snapshot})
			if strings.HasPrefix(name, "snapshot") || strings.HasPrefix(name, "pvmove") || strings.Contains(name, "_") {
				t.Errorf("%s", name)
			}
			if other, twice := seen[name]; twice {
				t.Errorf("%s and %s are both %s", id, other, name)
			}
			seen[name] = id
		}
	}
}

func group(epoch int64, free ...lvm.Range) *lvm.VolumeGroup {
	return &lvm.VolumeGroup{
		Name: "vg", Epoch: epoch, ExtentSize: 1, Layout: true, Free: free, FreeExtents: lvm.Count(free),
		PVs: []lvm.PhysicalVolume{{UUID: "a", Device: "/dev/a", Allocatable: true}, {UUID: "b", Missing: true, Allocatable: true}},
	}
}

func TestWhichExtentsAreClean(t *testing.T) {
	var s space
	all := lvm.Range{PV: "a", Start: 0, Count: 100}
	pick := func(vg *lvm.VolumeGroup, n int64, clean bool) ([]lvm.Range, bool, func()) {
		t.Helper()
		on, ok, done, err := s.pick(vg, n, clean)
		if err != nil {
			t.Fatal(err)
		}
		return on, ok, done
	}
	vg := group(1, all)
	if _, ok, _ := pick(vg, 1, true); ok {
		t.Error("extents that nobody zeroed are clean")
	}
	s.zeroed(vg, vg, []lvm.Range{{PV: "a", Start: 10, Count: 20}})
	on, ok, done := pick(vg, 15, true)
	if !ok || !slices.Equal(on, []lvm.Range{{PV: "a", Start: 10, Count: 15}}) {
		t.Errorf("picked %v, %t", on, ok)
	}
	if _, ok, _ := pick(vg, 6, true); ok {
		t.Error("what is taken is given once more")
	}
	if on, _, _ := pick(vg, 20, false); len(lvm.Intersect(on, []lvm.Range{{PV: "a", Start: 10, Count: 20}})) > 0 {
		t.Errorf("dirty extents would do, and %v were picked", on)
	}
	done()
	if _, ok, _ := pick(vg, 15, true); ok {
		t.Error("extents are clean after somebody had them")
	}
	if _, ok, _ := pick(vg, 5, true); !ok {
		t.Error("the rest is not clean any more")
	}
	s.zeroed(vg, group(1, all), []lvm.Range{{PV: "a", Start: 50, Count: 10}})
	if _, ok, _ := pick(group(2, all), 1, true); ok {
		t.Error("somebody else was there, and extents are clean all the same")
	}
	s.zeroed(group(2, all), group(3, all), []lvm.Range{{PV: "a", Start: 50, Count: 10}})
	if _, ok, _ := pick(group(3, all), 1, true); ok {
		t.Error("somebody else was there between wipe and end")
	}
	if _, _, _, err := s.pick(group(3, all, lvm.Range{PV: "b", Start: 0, Count: 100}), 150, false); !fault.Is(err, fault.Exhausted) {
		t.Errorf("extents on a device that is missing: %v", err)
	}
}

func TestCapabilitiesFollowTheSpec(t *testing.T) {
	thick := capabilities(v1alpha1.DatastoreSpec{LVM: &v1alpha1.LVMSpec{}})
	thin := capabilities(v1alpha1.DatastoreSpec{LVM: &v1alpha1.LVMSpec{ThinPool: &v1alpha1.ThinPoolSpec{Name: "p"}}})
	if !slices.Equal(thick.Provisioning, []v1alpha1.Provisioning{v1alpha1.Thick}) || len(thick.Redundancy) != 3 || !thick.SnapshotSize || !slices.Contains(thick.Wipe, v1alpha1.WipeZero) {
		t.Errorf("thick: %+v", thick)
	}
	if !slices.Equal(thin.Provisioning, []v1alpha1.Provisioning{v1alpha1.Thin}) || len(thin.Redundancy) != 0 || thin.SnapshotSize || slices.Contains(thin.Wipe, v1alpha1.WipeZero) {
		t.Errorf("thin: %+v", thin)
	}
	for _, fs := range append([]string{"", "ntfs"}, thick.Filesystems...) {
		if n := thick.MinBytes(fs); n < granularity || n%granularity != 0 {
			t.Errorf("%q: at least %d bytes", fs, n)
		}
	}
}

// LVM chooses extents for what is not made of named ones: for a while they are somebody's, and come back with what that wrote.
func TestExtentsThatLVMChoseAreNotClean(t *testing.T) {
	all := lvm.Range{PV: "a", Start: 0, Count: 100}
	zeroed := []lvm.Range{{PV: "a", Start: 10, Count: 20}}
	unknown := group(1, all)
	unknown.Layout = false
	for name, meanwhile := range map[string]*lvm.VolumeGroup{"seen": group(1, lvm.Subtract([]lvm.Range{all}, zeroed)...), "not seen": unknown} {
		var s space
		s.zeroed(group(1, all), group(1, all), zeroed)
		s.see(meanwhile)
		if on, ok, _, err := s.pick(group(1, all), 5, true); ok || err != nil {
			t.Errorf("%s: picked %v as clean, %v", name, on, err)
		}
	}
}

// Between the end of a wipe and the look at what it gave back, others may have chosen it.
func TestExtentsThatSomebodyIsFasterWithAreNotClean(t *testing.T) {
	all := lvm.Range{PV: "a", Start: 0, Count: 100}
	var s space
	on, ok, done, err := s.pick(group(1, all), 20, false)
	if !ok || err != nil {
		t.Fatal(err)
	}
	s.zeroed(group(1, all), group(1, all), on)
	done()
	if on, ok, _, _ := s.pick(group(1, all), 5, true); ok {
		t.Errorf("picked %v as clean, which was chosen before", on)
	}
	later := group(1, all)
	later.Seqno = 7
	s.see(later)
	s.zeroed(group(1, all), group(1, all), on)
	if on, ok, _, _ := s.pick(later, 5, true); ok {
		t.Errorf("picked %v as clean, by a state of the group that has passed", on)
	}
}
