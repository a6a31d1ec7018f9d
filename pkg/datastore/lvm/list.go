package lvm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// The health of a volume, by its names in the CSI specification (VolumeHealthErrorType).
const (
	dataLoss     v1alpha1.VolumeHealth = "DATA_LOSS"
	inaccessible v1alpha1.VolumeHealth = "INACCESSIBLE"
	degraded     v1alpha1.VolumeHealth = "DEGRADED"
)

// List reads the marks of all volumes of the pool. What is being made is not there yet. One whose mark can't be read is among
// them as unclear; what bears no tag of ours is foreign.
func (p *pool) List(ctx context.Context) ([]datastore.Found, error) {
	vg, err := p.recent(ctx)
	if err != nil {
		return nil, fault.Wrap(err, "list datastore", p.datastore)
	}
	var all []datastore.Found
	for _, name := range slices.Sorted(keys(vg.LVs)) {
		lv := vg.LVs[name]
		if !p.mine(lv) || stateOf(lv.Tags) == making {
			continue
		}
		all = append(all, p.look(vg, lv))
	}
	return all, nil
}

// look tells what a volume with a tag of ours is.
func (p *pool) look(vg *lvm.VolumeGroup, lv lvm.LogicalVolume) datastore.Found {
	f := datastore.Found{
		Volume: datastore.Volume{ID: lv.Name}, State: datastore.FoundUnclear, Location: vg.Name + "/" + lv.Name, Datastore: p.marker.Datastore,
		Allocated: allocated(vg, lv),
	}
	if _, ours := p.ordered(lv.Tags); ours || lv.HasTag(temporaryTag+p.marker.Pool) {
		f.State = datastore.FoundRemainder
		return f
	}
	m, problem := p.judge(lv)
	if problem != nil {
		problem.Message = f.Location + " " + problem.Message
		f.Problems = []v1alpha1.Problem{*problem}
		return f
	}
	f.Volume, f.Source, f.Made = m.Volume, m.Source, m.made(vg, lv)
	f.Volume.Provisioning = v1alpha1.Thick
	if p.thinPool != "" {
		f.Volume.Provisioning = v1alpha1.Thin
	}
	if !m.Snapshot {
		f.Volume.Bytes = min(m.Bytes, lv.Bytes)
	}
	f.State = datastore.FoundWhole
	switch policy, _, _ := strings.Cut(value(lv.Tags, keptTag), "/"); v1alpha1.DeletePolicy(policy) {
	case v1alpha1.ArchiveData:
		f.State = datastore.FoundArchived
	case v1alpha1.RetainData:
		f.State = datastore.FoundRetained
	}
	f.Problems = problems(vg, lv, m)
	return f
}

// judge returns the mark of a volume, or what is wrong with it.
func (p *pool) judge(lv lvm.LogicalVolume) (mark, *v1alpha1.Problem) {
	m, err := readMark(lv.Tags)
	wrong := func(reason, format string, args ...any) (mark, *v1alpha1.Problem) {
		return mark{}, &v1alpha1.Problem{Status: inaccessible, Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case value(lv.Tags, remainsTag) != "":
		return wrong("ForeignMark", "waits for its removal by another pool; it was left alone")
	case fault.Is(err, fault.NotFound):
		return wrong("MarkMissing", "bears tags of a volume and no mark, so nobody knows whose it is; restore its tags, or take off those that begin with %q", ours)
	case err != nil:
		return wrong("MarkUnreadable", "bears a mark that can't be read: %v; restore its tags", err)
	case m.ClusterID != p.marker.Cluster:
		return wrong("ForeignMark", "bears the mark of volume %s of cluster %s, the datastore is of cluster %s; it was left alone: take it to where it belongs",
			shorten(m.ID), shorten(m.ClusterID), p.marker.Cluster)
	case lvName(m.Volume) != lv.Name && !strings.HasPrefix(value(lv.Tags, keptTag), string(v1alpha1.ArchiveData)+"/"):
		return wrong("Misplaced", "bears the mark of %s, whose name here is %s; if somebody copied or renamed it by hand, take the tags that begin with %q off the copy, "+
			"or give it its name back", shorten(m.ID), lvName(m.Volume), ours)
	}
	return m, nil
}

// allocated is what a volume takes of its group or thin pool, in bytes. Of a thin one only the kernel can tell, while it is active.
func allocated(vg *lvm.VolumeGroup, lv lvm.LogicalVolume) int64 {
	if lv.Kind == lvm.Thin {
		return int64(float64(lv.Bytes) * lv.DataPercent / percent)
	}
	return vg.Takes(lv.Name)
}

const percent = 100

// Examine is what datastore.Examine asks.
func (p *pool) Examine(ctx context.Context, v datastore.Volume) ([]v1alpha1.Problem, error) {
	vg, err := p.recent(ctx)
	if err != nil {
		return nil, p.about(err, "look at", v)
	}
	i, err := p.find(vg, v)
	if err != nil {
		return nil, p.about(err, "look at", v)
	}
	return problems(vg, i.LogicalVolume, i.mark), nil
}

// warnSnapshot is how full a copy-on-write snapshot may be, in percent, before it is told of.
const warnSnapshot = 80

// problems are what is wrong with a volume's storage.
func problems(vg *lvm.VolumeGroup, lv lvm.LogicalVolume, m mark) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	add := func(status v1alpha1.VolumeHealth, reason, format string, args ...any) {
		out = append(out, v1alpha1.Problem{Status: status, Reason: reason, Message: vg.Name + "/" + lv.Name + " " + fmt.Sprintf(format, args...)})
	}
	health := lv.Health
	if pool, ok := vg.LVs[lv.Pool]; ok && health == lvm.Sound {
		health = pool.Health
	}
	switch health {
	case lvm.Partial:
		switch lost, bear := vg.LostLegs(lv.Name); {
		case lv.Kind != lvm.RAID:
			add(inaccessible, "DeviceMissing", "lies on a device that is missing; connect it again: %s", missing(vg))
		case lost > bear:
			add(inaccessible, "DevicesMissing", "lacks %d of its devices, and can do without %d; connect them again: %s", lost, bear, missing(vg))
		default:
			add(degraded, "DeviceMissing", "goes on without %d of its devices; connect it again, or replace it with `lvconvert --repair %s/%s`: %s",
				lost, vg.Name, lv.Name, missing(vg))
		}
	case lvm.RefreshNeeded:
		add(degraded, "LegFailed", "had errors on one of its devices; look at the kernel's log, then `lvchange --refresh %s/%s`", vg.Name, lv.Name)
	case lvm.Mismatches:
		add(degraded, "Mismatches", "has legs that differ; look with `lvs -o+raid_mismatch_count`, and repair with `lvchange --syncaction repair %s/%s`", vg.Name, lv.Name)
	case lvm.OutOfData:
		add(degraded, "PoolFull", "lies in a thin pool that is full: what is written to new blocks fails; extend %s/%s", vg.Name, lv.Pool)
	case lvm.MetadataReadOnly:
		add(degraded, "PoolMetadataFull", "lies in a thin pool whose metadata is full or damaged: nothing new can be written; extend the metadata of %s/%s, or repair it with "+
			"`lvconvert --repair`", vg.Name, lv.Pool)
	case lvm.Failed:
		add(inaccessible, "PoolFailed", "lies in a thin pool that has failed; look at the kernel's log")
	case lvm.Overflowed:
		add(dataLoss, "SnapshotOverflowed", "has overflowed: more of its volume was overwritten than its store could hold, and what it held is lost; delete it")
	}
	if lv.Kind == lvm.Snapshot && health != lvm.Overflowed && lv.DataPercent >= warnSnapshot {
		add(degraded, "SnapshotNearlyFull", "has used %.0f%% of its store of %s, and is lost when that is full; copy what it holds, delete it, or extend it with "+
			"`lvextend %s/%s`", lv.DataPercent, humanBytes(lv.Bytes), vg.Name, lv.Name)
	}
	if !m.Snapshot && lv.Bytes < m.Bytes {
		add(dataLoss, "TooSmall", "has %d bytes, its mark says %d: somebody has made it smaller", lv.Bytes, m.Bytes)
	}
	return out
}

// missing names the devices that a group lacks.
func missing(vg *lvm.VolumeGroup) string {
	var out []string
	for _, pv := range vg.PVs {
		if pv.Missing {
			out = append(out, "physical volume "+pv.UUID)
		}
	}
	return strings.Join(out, ", ")
}
