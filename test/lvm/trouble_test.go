package lvm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func reasons(findings []v1alpha1.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Reason)
	}
	return strings.Join(out, " ")
}

func (r *rig) health(v datastore.Volume) string {
	r.t.Helper()
	problems, err := datastore.Examine(r.t.Context(), r.Pool, v)
	must(r.t, err)
	var out []string
	for _, p := range problems {
		out = append(out, string(p.Status)+" "+p.Reason)
	}
	return strings.Join(out, ", ")
}

// maintain is what a measurement begins with.
func (r *rig) maintain() error {
	return r.Pool.(interface{ Maintain(context.Context) error }).Maintain(r.t.Context())
}

func TestADeviceWithAnythingOnItIsNotTaken(t *testing.T) {
	for name, put := range map[string][]string{
		"a file system":     {"mkfs.ext4", "-q", "-E", "nodiscard", "/dev/ubdb", "50M"},
		"a partition table": {"sh", "-c", "echo 'label: gpt' | sfdisk -q /dev/ubdb"},
		"swap":              {"mkswap", "-q", "/dev/ubdb"},
		"bytes":             {"dd", "if=/dev/urandom", "of=/dev/ubdb", "bs=4k", "count=1", "seek=64", "conv=fsync", "status=none"},
		"a physical volume": {"pvcreate", "-q", "-y", "/dev/ubdb"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, nil)
			cleanDisks(t)
			run(t, put[0], put[1:]...)
			before := sum(t, "/dev/ubdb", 16*mib)
			r.config.Datastore.Spec.LVM.Devices = disks()[:2]
			if err := r.reopen(); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "/dev/ubdb") {
				t.Errorf("%v", err)
			}
			if sum(t, "/dev/ubdb", 16*mib) != before {
				t.Error("its bytes have changed")
			}
			if out, _ := attempt("pvs", "--noheadings", "/dev/ubda"); strings.Contains(out, "lvm2") {
				t.Errorf("the blank one was taken all the same: %s", out)
			}
		})
	}
}

func TestOnlyWhatMayBeMadeIsMade(t *testing.T) {
	r := newRig(t, 1, nil)
	cleanDisks(t)
	r.config.Datastore.Spec.LVM.Provision = v1alpha1.ProvisionNever
	if err := r.reopen(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("provision Never: %v", err)
	}
	r.config.Datastore.Spec.LVM.Provision = v1alpha1.ProvisionIfEmpty
	r.config.PoolUUID = "was-once-there"
	if err := r.reopen(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a pool that is gone is made anew: %v", err)
	}
	r.config.PoolUUID, r.config.Inspect = "", true
	if err := r.reopen(); err == nil {
		t.Error("made while it was only inspected")
	}
	if out, _ := attempt("pvs", "--noheadings", "/dev/ubda"); strings.Contains(out, "lvm2") {
		t.Errorf("made: %s", out)
	}
}

func TestGroupsOfOthersAreRefused(t *testing.T) {
	r := newRig(t, 1, nil)
	r.create(r.volume("v", 8*mib, ""))
	pool := r.status().UUID
	for name, c := range map[string]struct {
		change, back func()
		want         fault.Kind
	}{
		"another host's system ID": {
			func() { run(t, "vgchange", "-y", "--systemid", "elsewhere", "vg") },
			func() {
				run(t, "vgchange", "-y", "--config", `global{system_id_source="lvmlocal"} local{system_id="elsewhere"}`, "--systemid", "", "vg")
			}, fault.Precondition,
		},
		"exported":          {func() { run(t, "vgexport", "vg") }, func() { run(t, "vgimport", "vg") }, fault.Precondition},
		"another cluster":   {func() { r.config.ClusterID = "x" }, func() { r.config.ClusterID = cluster }, fault.Precondition},
		"another datastore": {func() { r.config.Datastore.Name = "slow" }, func() { r.config.Datastore.Name = "fast" }, fault.Precondition},
		"another machine":   {func() { r.config.MachineID = "ff" }, func() { r.config.MachineID = "0123456789abcdef0123456789abcdef" }, fault.Precondition},
		"another pool":      {func() { r.config.PoolUUID = "x" }, func() { r.config.PoolUUID = pool }, fault.Unavailable},
	} {
		c.change()
		if err := r.reopen(); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, fault.KindOf(err), err)
		}
		c.back()
		must(t, r.reopen())
	}
	// One that is taken away while it is open.
	tags := run(t, "vgs", "--noheadings", "-o", "vg_tags", "vg")
	run(t, "vgchange", "--deltag", tags, "vg")
	for what, err := range map[string]error{
		"status": func() error { _, err := r.Status(t.Context()); return err }(),
		"create": func() error { _, err := r.Create(t.Context(), r.volume("w", 8*mib, ""), nil, nil); return err }(),
		"opened": r.reopen(),
	} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s without the marker: %v", what, err)
		}
	}
	run(t, "vgchange", "--addtag", tags, "vg")
	r.config.Datastore.Spec.LVM.AdoptFrom, r.config.MachineID = r.config.MachineID, "ff"
	must(t, r.reopen())
	r.config.Datastore.Spec.LVM.AdoptFrom = ""
	must(t, r.reopen())
}

// Redundancy, and a disk that is pulled and comes back.
func TestAMissingDiskHurtsOnlyWhatNeedsIt(t *testing.T) {
	r := newRig(t, 3, nil)
	ctx := t.Context()
	all := map[string]datastore.Volume{}
	for name, c := range map[string]struct {
		redundancy v1alpha1.Redundancy
		stripes    int
		takes      int64
	}{"plain": {"", 0, 0}, "mirror": {v1alpha1.Mirror, 0, 40 * mib}, "parity": {v1alpha1.Parity, 0, 36 * mib}, "wide": {"", 3, 0}} {
		v := r.volume(name, 16*mib, "")
		if name == "parity" || name == "wide" {
			v.Bytes = 24 * mib // 2 or 3 data legs
		}
		v.Redundancy, v.Stripes = c.redundancy, c.stripes
		made := r.create(v)
		if made.Takes != c.takes && name != "parity" || made.Takes < c.takes {
			t.Errorf("%s takes %d", name, made.Takes)
		}
		all[name] = v
		if h := r.health(v); h != "" {
			t.Errorf("%s: %s", name, h)
		}
	}
	sums := map[string]string{}
	for name, v := range all {
		o := r.opened(v)
		if !zeroes(t, o.Device, 0) {
			t.Errorf("%s shows old bytes", name)
		}
		sums[name] = fill(t, o.Device, 3)
		r.closed(v)
	}
	// The disk on which the plain one does not lie.
	plain := run(t, "lvs", "--noheadings", "-o", "devices", "vg/plain-"+strings.ReplaceAll(all["plain"].UID, "-", "")[:8])
	gone := "/dev/ubda"
	if strings.HasPrefix(plain, gone) {
		gone = "/dev/ubdb"
	}
	must(t, os.Rename(gone, gone+".pulled"))
	defer func() { _ = os.Rename(gone+".pulled", gone) }()
	r.open()
	s := r.status()
	if !s.Degraded || !strings.Contains(reasons(s.Findings), "DevicesMissing") {
		t.Errorf("status %+v", s)
	}
	for name, want := range map[string]string{"plain": "", "parity": "DEGRADED DeviceMissing", "wide": "INACCESSIBLE DeviceMissing"} {
		if h := r.health(all[name]); h != want {
			t.Errorf("%s without a disk: %q", name, h)
		}
	}
	for _, name := range []string{"plain", "mirror", "parity"} {
		if sum(t, r.opened(all[name]).Device, all[name].Bytes) != sums[name] {
			t.Errorf("%s without a disk has other bytes", name)
		}
		r.closed(all[name])
	}
	if _, err := r.Open(ctx, all["wide"], false); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("what needs the disk: %v", err)
	}
	if _, err := r.Create(ctx, r.volume("new", 8*mib, ""), nil, nil); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Exhausted) {
		t.Errorf("create meanwhile: %v", err)
	}
	must(t, os.Rename(gone+".pulled", gone))
	r.open()
	if s := r.status(); s.Degraded {
		t.Errorf("after it came back: %+v", s)
	}
	for name, v := range all {
		if sum(t, r.opened(v).Device, v.Bytes) != sums[name] {
			t.Errorf("%s has other bytes after the disk came back", name)
		}
		r.closed(v)
		r.remove(v)
	}
	must(t, r.Reclaim(ctx))
}

func TestASnapshotThatOverflowsIsTold(t *testing.T) {
	r := newRig(t, 1, nil)
	v := r.volume("v", 40*mib, "")
	r.create(v)
	o := r.opened(v)
	s := r.snap("s", v, "50%")
	if h := r.health(s); h != "" {
		t.Errorf("fresh: %s", h)
	}
	run(t, "dd", "if=/dev/urandom", "of="+o.Device, "bs=1M", "count=20", "conv=fsync,notrunc", "status=none")
	r.open()
	if h := r.health(s); h != "DEGRADED SnapshotNearlyFull" || !strings.Contains(reasons(r.status().Findings), "SnapshotsNearlyFull") {
		t.Errorf("nearly full: %s", h)
	}
	run(t, "dd", "if=/dev/urandom", "of="+o.Device, "bs=1M", "count=40", "conv=fsync,notrunc", "status=none")
	r.open()
	if h := r.health(s); h != "DATA_LOSS SnapshotOverflowed" {
		t.Errorf("overflowed: %s", h)
	}
	if _, err := r.Create(t.Context(), r.volume("restored", 40*mib, ""), &s, nil); !fault.Is(err, fault.DataLoss) {
		t.Errorf("restored from what is lost: %v", err)
	}
	r.closed(v)
	r.remove(s)
	r.remove(v)
	must(t, r.Reclaim(t.Context()))
	if left := r.found(); len(left) != 0 {
		t.Errorf("left %+v", left)
	}
}

// A pool that is about to fill is told of, promises nothing new, grows by itself where it may, and keeps what it has where it did fill.
func TestAThinPoolFills(t *testing.T) {
	r := newRig(t, 1, func(d *v1alpha1.Datastore) {
		d.Spec.LVM.ThinPool = &v1alpha1.ThinPoolSpec{Name: "pool", Size: "100Mi"}
	})
	v := r.volume("v", 200*mib, "ext4")
	r.create(v)
	o := r.opened(v)
	mounted(t, o.Device, func(dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "kept"), []byte("content"), 0o600))
		run(t, "sync", "-f", dir)
		// What doesn't fit fails at once, and not after the minute for which the pool would wait for more space.
		run(t, "lvchange", "--errorwhenfull", "y", "vg/pool")
		out, err := exec.CommandContext(t.Context(), "dd", "if=/dev/urandom", "of="+filepath.Join(dir, "big"), "bs=1M", "count=150", "conv=fsync").CombinedOutput()
		if err == nil {
			t.Errorf("150 MiB fit into 100: %s", out)
		}
	})
	s := r.status()
	if s.Free > mib || !s.Degraded || !strings.Contains(reasons(s.Findings), "ThinPoolFull") {
		t.Errorf("full: %+v", s)
	}
	if h := r.health(v); h != "DEGRADED PoolFull" {
		t.Errorf("its volume: %q", h)
	}
	if _, err := r.Create(t.Context(), r.volume("new", 8*mib, ""), nil, nil); !fault.Is(err, fault.Exhausted) {
		t.Errorf("promised by a full pool: %v", err)
	}
	r.config.Datastore.Spec.LVM.ThinPool.AutoExtend = &v1alpha1.AutoExtendSpec{Threshold: 80, By: 50, Max: "220Mi"}
	r.open()
	must(t, r.maintain())
	if s := r.status(); s.Total != 148*mib || s.Degraded {
		t.Errorf("extended: %+v", s)
	}
	if out, err := attempt("e2fsck", "-p", "-f", o.Device); err != nil && !strings.Contains(out, "recovering journal") {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	run(t, "e2fsck", "-n", "-f", o.Device)
	mounted(t, o.Device, func(dir string) {
		if b, err := os.ReadFile(filepath.Join(dir, "kept")); string(b) != "content" {
			t.Errorf("%q, %v", b, err)
		}
		must(t, os.WriteFile(filepath.Join(dir, "more"), []byte("content"), 0o600))
	})
	r.closed(v)
	r.remove(v)
}

func TestWhatCantBeServedIsRefused(t *testing.T) {
	r := newRig(t, 1, nil)
	ctx := t.Context()
	v := r.volume("v", 20*mib, "ext4")
	r.create(v)
	small := r.volume("small", 16*mib, "ext4")
	other := r.volume("other", 300*mib, "xfs")
	huge := r.volume("huge", 100*gib, "")
	foreign := r.volume("foreign", 8*mib, "")
	foreign.ClusterID = "x"
	odd := r.volume("../x", 8*mib, "")
	for name, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"restore into a smaller one":    {func() error { _, err := r.Create(ctx, small, &v, nil); return err }(), fault.OutOfRange},
		"copy with another file system": {func() error { _, err := r.Create(ctx, other, &v, nil); return err }(), fault.Invalid},
		"more than there is":            {func() error { _, err := r.Create(ctx, huge, nil, nil); return err }(), fault.Exhausted},
		"another cluster's":             {func() error { _, err := r.Create(ctx, foreign, nil, nil); return err }(), fault.Precondition},
		"a name that leads away":        {func() error { _, err := r.Create(ctx, odd, nil, nil); return err }(), fault.Invalid},
		"a source that isn't there":     {func() error { _, err := r.Create(ctx, huge, &small, nil); return err }(), fault.NotFound},
	} {
		if !fault.Is(c.err, c.want) {
			t.Errorf("%s: %v, %v", name, fault.KindOf(c.err), c.err)
		}
	}
	if lvs := strings.Fields(run(t, "lvs", "--noheadings", "-o", "lv_name", "vg")); len(lvs) != 1 || slices.Contains(lvs, "huge") {
		t.Errorf("left: %v", lvs)
	}
}
