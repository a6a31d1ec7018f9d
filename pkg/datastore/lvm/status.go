package lvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// Status measures the pool with one report. Of a volume group the extents that are allocated are used, whoever has them; of a thin pool the
// blocks.
func (p *pool) Status(ctx context.Context) (datastore.Status, error) {
	status, err := p.status(ctx)
	return status, fault.Wrap(err, "measure datastore", p.datastore)
}

func (p *pool) status(ctx context.Context) (datastore.Status, error) {
	vg, err := p.fresh(ctx)
	if err != nil {
		return datastore.Status{}, err
	}
	s := datastore.Status{UUID: p.marker.Pool, Host: p.marker.Host, Features: []v1alpha1.Feature{v1alpha1.InstantCopies}}
	if p.thinPool != "" {
		p.measureThin(vg, &s)
	} else {
		s.Features = append(s.Features, v1alpha1.WipeByZeroes)
		p.measureThick(vg, &s)
	}
	p.findings(vg, &s)
	if vg.MissingPVs > 0 {
		s.Degraded = true // LVM changes no group that lacks a device
		p.lookAgain(ctx)
	}
	slices.Sort(s.Features)
	return s, nil
}

// lookAgain finds devices that may have come back under another name.
func (p *pool) lookAgain(ctx context.Context) {
	if len(p.paths) > 0 {
		return // stable names
	}
	devices, err := candidates()
	if err != nil {
		return
	}
	if seen, err := lvm.Scan(ctx, p.tools.Command, devices); err == nil {
		if found := devicesOf(seen, p.UUID()); len(found) > 0 {
			p.use(p.datastore, found)
		}
	}
}

// measureThick counts extents. What is kept, waits for its wipe or is foreign is used and not the pool's own.
func (p *pool) measureThick(vg *lvm.VolumeGroup, s *datastore.Status) {
	s.Total = vg.Extents * vg.ExtentSize
	for _, pv := range vg.PVs {
		if pv.Missing || !pv.Allocatable {
			s.Total -= (pv.Extents - pv.Used) * vg.ExtentSize
			s.Free -= (pv.Extents - pv.Used) * vg.ExtentSize
		}
	}
	s.Free = max(0, s.Free+vg.FreeBytes())
	s.Used = s.Total - s.Free
	for name, lv := range vg.LVs {
		if p.promised(lv) {
			s.Own += vg.Takes(name)
		}
	}
	s.Own = min(s.Own, s.Used)
}

// promised tells whether a volume is one of ours that is promised: whole, or being made.
func (p *pool) promised(lv lvm.LogicalVolume) bool {
	if !p.mine(lv) {
		return false
	}
	state := stateOf(lv.Tags)
	m, err := readMark(lv.Tags)
	return err == nil && m.ClusterID == p.marker.Cluster && (state == whole || state == making)
}

// measureThin counts the pool's blocks. Those of volumes that are not promised can be told only as far as the kernel knows them: the most that
// they may have is not the pool's own.
func (p *pool) measureThin(vg *lvm.VolumeGroup, s *datastore.Status) {
	tp := vg.LVs[p.thinPool]
	s.Total = tp.Bytes
	s.Used = int64(float64(tp.Bytes) * tp.DataPercent / percent)
	s.Free = s.Total - s.Used
	s.Own = s.Used
	for _, lv := range vg.LVs {
		if lv.Pool != p.thinPool || p.promised(lv) {
			continue
		}
		most := lv.Bytes
		if lv.Active {
			most = allocated(vg, lv)
		}
		s.Own = max(0, s.Own-most)
	}
	warn, critical := p.limits()
	full := p.judgeThin(vg, tp, s, warn, critical)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = full
}

// limits are the shares in percent at which a pool is reported, and at which it promises nothing new.
func (p *pool) limits() (warn, critical float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, c := v1alpha1.DefaultWarnPercent, v1alpha1.DefaultCriticalPercent
	return float64(*cmp.Or(p.capacity.WarnPercent, &w)), float64(*cmp.Or(p.capacity.CriticalPercent, &c))
}

// judgeThin tells what a thin pool is short of, and returns why it takes nothing new.
func (p *pool) judgeThin(vg *lvm.VolumeGroup, tp lvm.LogicalVolume, s *datastore.Status, warn, critical float64) error {
	where := vg.Name + "/" + tp.Name
	add := func(reason, format string, args ...any) {
		s.Findings = append(s.Findings, v1alpha1.Finding{Reason: reason, Message: "thin pool " + where + " " + fmt.Sprintf(format, args...)})
	}
	var full error
	stop := func(reason, format string, args ...any) {
		add(reason, format, args...)
		s.Degraded = true
		full = errors.Join(full, fault.New(fault.Exhausted, "thin pool %s "+format, append([]any{where}, args...)...))
	}
	switch tp.Health {
	case lvm.OutOfData:
		stop("ThinPoolFull", "is full: what is written to new blocks fails; extend it (lvextend %s), its volumes keep what they have", where)
	case lvm.MetadataReadOnly:
		stop("ThinMetadataReadOnly", "can't change its metadata: it is full or damaged; extend it (lvextend --poolmetadatasize +SIZE %s), or repair it (lvconvert --repair)", where)
	case lvm.Failed:
		stop("ThinPoolFailed", "has failed; look at the kernel's log, and repair it (lvconvert --repair %s)", where)
	}
	switch {
	case tp.MetadataPercent >= critical:
		stop("ThinMetadataCritical", "has used %.0f%% of its metadata, the limit is %.0f%%: nothing new is promised; extend it (lvextend --poolmetadatasize +SIZE %s)",
			tp.MetadataPercent, critical, where)
	case tp.MetadataPercent >= warn:
		add("ThinMetadataNearlyFull", "has used %.0f%% of its metadata; extend it (lvextend --poolmetadatasize +SIZE %s) before it is critical", tp.MetadataPercent, where)
	}
	if tp.DataPercent >= critical {
		full = errors.Join(full, fault.New(fault.Exhausted, "thin pool %s has used %.0f%% of its space, the limit is %.0f%%: nothing new is promised; extend it, or free some",
			where, tp.DataPercent, critical))
	}
	return full
}

// metadataTight is the share of a metadata area in percent that should stay free: LVM needs room for the old and the new text.
const metadataTight = 10

// findings tell what is wrong with the group.
func (p *pool) findings(vg *lvm.VolumeGroup, s *datastore.Status) {
	add := func(reason, format string, args ...any) {
		s.Findings = append(s.Findings, v1alpha1.Finding{Reason: reason, Message: "volume group " + vg.Name + " " + fmt.Sprintf(format, args...)})
	}
	if vg.MissingPVs > 0 {
		add("DevicesMissing", "lacks %d of its %d devices (%s): nothing can be made, grown or removed, and volumes on them can't be used; connect them again, "+
			"or give them up with `vgreduce --removemissing %s`", vg.MissingPVs, len(vg.PVs), missing(vg), vg.Name)
	}
	// Half of the area is for the old text.
	if half := vg.MetadataSize / 2; half > 0 && vg.MetadataFree < half*metadataTight/percent {
		add("MetadataNearlyFull", "has room for %s more of metadata, of %s: with %d volumes it holds nearly as many as it can; make the next group with a larger one "+
			"(pvcreate --metadatasize)", humanBytes(vg.MetadataFree), humanBytes(half), len(vg.LVs))
	}
	var sick, tight []string
	for _, name := range slices.Sorted(keys(vg.LVs)) {
		lv := vg.LVs[name]
		if !p.mine(lv) {
			continue
		}
		if lv.Kind == lvm.RAID && lv.Health != lvm.Sound {
			sick = append(sick, fmt.Sprintf("%s (%s)", name, lv.Health))
		}
		if lv.Kind == lvm.Snapshot && (lv.DataPercent >= warnSnapshot || lv.Health == lvm.Overflowed) {
			tight = append(tight, fmt.Sprintf("%s (%.0f%%)", name, lv.DataPercent))
		}
	}
	if len(sick) > 0 {
		add("RaidDegraded", "has %d volumes with redundancy that lack some of it: %s; connect their devices again, or repair them with `lvconvert --repair`", len(sick), some(sick))
	}
	if len(tight) > 0 {
		add("SnapshotsNearlyFull", "has %d snapshots whose store is nearly full or has overflowed: %s; each is lost when it is full", len(tight), some(tight))
	}
}

// some names a few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return fmt.Sprint(names)
	}
	return fmt.Sprintf("%v and %d more", names[:few], len(names)-few)
}

// The defaults of what an AutoExtendSpec leaves open, in percent.
const (
	defaultThreshold = 80
	defaultBy        = 20
)

// Maintain extends the thin pool where its administrator wants that, before it fills.
func (p *pool) Maintain(ctx context.Context) error {
	return fault.Wrap(p.maintain(ctx), "tend datastore", p.datastore)
}

func (p *pool) maintain(ctx context.Context) error {
	if p.thinPool == "" || p.spec.ThinPool.AutoExtend == nil {
		return nil
	}
	vg, err := p.fresh(ctx)
	if err != nil {
		return err
	}
	tp, auto := vg.LVs[p.thinPool], p.spec.ThinPool.AutoExtend
	threshold, by := float64(cmp.Or(auto.Threshold, defaultThreshold)), cmp.Or(auto.By, defaultBy)
	most, said, err := v1alpha1.ShareOrBytes(auto.Max).Of(vg.Extents * vg.ExtentSize)
	if err != nil {
		return fault.As(fault.Invalid, err)
	}
	if !said {
		most = vg.Extents * vg.ExtentSize
	}
	var data, metadata int64
	if tp.DataPercent >= threshold && tp.Bytes < most {
		data = min(most, tp.Bytes+max(v1alpha1.Percent(tp.Bytes, by), vg.ExtentSize), tp.Bytes+vg.FreeBytes()) / vg.ExtentSize * vg.ExtentSize
	}
	if tp.MetadataPercent >= threshold {
		// The spare that a pool is repaired with grows along.
		metadata = min(maxThinMetadata, tp.MetadataBytes+max(v1alpha1.Percent(tp.MetadataBytes, by), vg.ExtentSize))
	}
	if data <= tp.Bytes && metadata <= tp.MetadataBytes {
		if tp.DataPercent >= threshold {
			return fault.New(fault.Exhausted, "thin pool %s/%s has used %.0f%% and can't be extended: it has %s, its limit is %s, and the group has %s free; add a device to the group",
				vg.Name, tp.Name, tp.DataPercent, humanBytes(tp.Bytes), humanBytes(most), humanBytes(vg.FreeBytes()))
		}
		return nil
	}
	return p.ExtendPool(ctx, p.thinPool, data, metadata)
}

// maxThinMetadata is the largest that thin metadata can be, in bytes (lvmthin(7): somewhat less than 16 GiB).
const maxThinMetadata = 15 << 30

// Deactivate takes the thin pool out of use, as a datastore that is switched off does; volumes that are in use keep it active.
func (p *pool) Deactivate(ctx context.Context) error {
	if p.thinPool == "" {
		return nil
	}
	if _, err := p.enter(ctx); err != nil {
		return err
	}
	return fault.Wrap(p.Group.Deactivate(ctx, p.thinPool), "deactivate datastore", p.datastore)
}
