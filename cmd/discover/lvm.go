package discover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// lvm finds the volume groups of the devices that are physical volumes, and says of these whose they are. Where there are none,
// LVM is not asked at all.
func (m *machine) lvm(ctx context.Context, devices []Found) []Found {
	byPath := map[string]*Found{}
	for i := range devices {
		if strings.HasPrefix(devices[i].Holds, physicalVolume) {
			byPath[devices[i].Device] = &devices[i]
		}
	}
	if len(byPath) == 0 {
		return nil
	}
	seen, err := lvm.Scan(ctx, m.run, slices.Sorted(maps.Keys(byPath)))
	if err != nil {
		for _, f := range byPath {
			f.refuse("its volume group can't be told: " + err.Error())
		}
		return nil
	}
	groups, names := map[string][]string{}, map[string]string{}
	for _, s := range seen {
		f := byPath[s.Device]
		if s.Group == "" {
			f.refuse("a physical volume of no volume group")
			continue
		}
		f.refuse("part of volume group " + s.Group)
		groups[s.GroupUUID] = append(groups[s.GroupUUID], s.Device)
		names[s.GroupUUID] = s.Group
	}
	var out []Found
	for _, uuid := range slices.SortedFunc(maps.Keys(groups), func(a, b string) int { return strings.Compare(names[a], names[b]) }) {
		out = append(out, m.group(ctx, uuid, names[uuid], groups[uuid])...)
	}
	return out
}

// group tells of a volume group and its thin pools.
func (m *machine) group(ctx context.Context, uuid, name string, devices []string) []Found {
	of := []v1alpha1.DatastoreType{v1alpha1.TypeLVM}
	f := Found{Kind: VolumeGroup, Name: nameOf(name), Path: name, Device: strings.Join(devices, ", "), of: of}
	f.spec = func(t v1alpha1.DatastoreType) v1alpha1.DatastoreSpec {
		return v1alpha1.DatastoreSpec{Type: t, LVM: &v1alpha1.LVMSpec{VolumeGroup: name}}
	}
	vg, err := lvm.NewGroup(lvm.Config{
		Run: m.run, UUID: uuid, Devices: func(context.Context) ([]string, error) { return devices, nil },
	}).View(ctx)
	if err != nil {
		f.refuse("can't be read: " + err.Error())
		return []Found{f}
	}
	f.Bytes, f.Free = vg.Extents*vg.ExtentSize, vg.FreeBytes()
	f.Holds = fmt.Sprintf("%d logical volumes", len(vg.LVs))
	refuseGroup(&f, vg)
	all := []Found{f}
	for _, lv := range slices.Sorted(maps.Keys(vg.LVs)) {
		pool := vg.LVs[lv]
		if pool.Kind != lvm.ThinPool {
			continue
		}
		p := Found{
			Kind: ThinPool, Name: nameOf(name + "-" + lv), Path: name + "/" + lv, Device: f.Device, Bytes: pool.Bytes, of: of,
			Free: int64(float64(pool.Bytes) * (1 - pool.DataPercent/100)), Why: slices.Clone(f.Why),
		}
		p.spec = func(t v1alpha1.DatastoreType) v1alpha1.DatastoreSpec {
			return v1alpha1.DatastoreSpec{Type: t, LVM: &v1alpha1.LVMSpec{VolumeGroup: name, ThinPool: &v1alpha1.ThinPoolSpec{Name: lv}}}
		}
		if !pool.Active {
			p.Notes = append(p.Notes, "it is not active, so how full it is isn't known")
		}
		all = append(all, p)
	}
	if len(f.Why) == 0 && f.Free == 0 {
		all[0].refuse("it has no free space; its thin pools may have some")
	}
	return all
}

// refuseGroup says what keeps a group and what is in it from becoming a datastore.
func refuseGroup(f *Found, vg *lvm.VolumeGroup) {
	switch {
	case vg.MissingPVs > 0:
		f.refuse(fmt.Sprintf("%d of its physical volumes are missing", vg.MissingPVs))
	case vg.Exported:
		f.refuse("it is exported (vgexport): import it first")
	case vg.ReadOnly:
		f.refuse("it is read-only")
	case vg.Clustered || vg.LockType != "" && vg.LockType != "none":
		f.refuse("it is shared with other hosts")
	case vg.SystemID != "":
		f.Notes = append(f.Notes, "its system ID is "+vg.SystemID)
	}
}
