package lvm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// kinds are the two kinds of datastore.
func kinds() map[string]func(*v1alpha1.Datastore) {
	return map[string]func(*v1alpha1.Datastore){"thick": nil, "thin": thin}
}

func TestAWholeLife(t *testing.T) {
	for name, kind := range kinds() {
		for _, fs := range []string{"", "ext4", "btrfs"} {
			t.Run(name+" "+fs, func(t *testing.T) { wholeLife(t, newRig(t, 4, kind), fs) })
		}
	}
}

func wholeLife(t *testing.T, r *rig, fs string) {
	ctx := t.Context()
	v := r.volume("pvc-1", 260*mib, fs)
	made := r.create(v)
	if made.Bytes != 260*mib || made.Identity != v.UID || !strings.HasPrefix(made.Location, "vg/pvc-1-") {
		t.Errorf("made %+v", made)
	}
	calls := r.counted(func() {
		if again, err := r.Create(ctx, v, nil, nil); again != made || err != nil {
			t.Errorf("again: %+v, %v", again, err)
		}
		if found, err := r.Find(ctx, v); found != made || err != nil {
			t.Errorf("found: %+v, %v", found, err)
		}
	})
	if calls > 1 { // what LVM chose is looked at once
		t.Errorf("finding what was just made takes %d calls of lvm", calls)
	}
	o := r.opened(v)
	if o.Bytes != 260*mib || o.Identity != v.UID || o.Discard != (v.Provisioning == v1alpha1.Thin) {
		t.Errorf("opened %+v", o)
	}
	if used, err := datastore.InUse(ctx, r.Pool, v); used || err != nil {
		t.Errorf("in use: %t, %v", used, err)
	}
	if fs == "" {
		if !zeroes(t, o.Device, 0) {
			t.Error("a new raw volume shows old bytes")
		}
		fill(t, o.Device, 1)
	} else {
		mounted(t, o.Device, func(dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600))
			if used, err := datastore.InUse(ctx, r.Pool, v); !used || err != nil {
				t.Errorf("in use: %t, %v", used, err)
			}
			if err := r.Delete(ctx, v, datastore.Disposal{}); !fault.Is(err, fault.Precondition) {
				t.Errorf("deleting what is mounted: %v", err)
			}
			must(t, r.Close(ctx, v)) // which leaves it as it is
		})
	}
	grown := v
	grown.Bytes = 300 * mib
	if made, err := r.Expand(ctx, grown); err != nil || made.Bytes != 300*mib {
		t.Errorf("expanded: %+v, %v", made, err)
	}
	if fs == "" && !zeroes(t, o.Device, 260*mib) {
		t.Error("what was added shows old bytes")
	}
	r.closed(v)
	f := r.found()["Whole pvc-1"]
	if f.Volume.UID != v.UID || f.Volume.Bytes != 300*mib || f.Volume.Provisioning != v.Provisioning || f.Volume.Parameters["datastore"] != "fast" ||
		f.Volume.Labels["datastore-csi.io/pvc-name"] != "data" || len(f.Problems) != 0 || !f.Volume.Created.Equal(v.Created) {
		t.Errorf("listed %+v", f)
	}
	if fs != "" && (f.Volume.Filesystem == nil || f.Volume.Filesystem.Type != fs || f.Volume.Filesystem.UUID != v.Filesystem.UUID) {
		t.Errorf("listed with %+v", f.Volume.Filesystem)
	}
	r.open()
	must(t, func() error { _, err := r.Find(ctx, v); return err }())
	r.remove(v)
	r.remove(v)
	if _, err := r.Find(ctx, v); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted: %v", err)
	}
	must(t, r.Reclaim(ctx))
	if left := r.found(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if s := r.status(); s.Own != 0 {
		t.Errorf("%d bytes are still promised", s.Own)
	}
}

func TestARawVolumeIsOneCallInTheSteadyState(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kind)
			first := r.volume("first", 20*mib, "")
			r.create(first)
			r.remove(first)
			must(t, r.Reclaim(t.Context()))
			for _, id := range []string{"a", "b"} {
				v := r.volume(id, 8*mib, "")
				if n := r.counted(func() { r.create(v) }); n != 1 {
					t.Errorf("create takes %d calls", n)
				}
				if n := r.counted(func() { r.remove(v) }); n != 1 {
					t.Errorf("delete takes %d calls", n)
				}
			}
		})
	}
}

// What a tenant wrote on a deleted raw volume is not readable in any other, nor what was in the group before.
func TestNoOldBytesAreSeen(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kind)
			ctx := t.Context()
			// Somebody had all of the group before.
			run(t, "lvcreate", "-y", "-n", "foreign", "-l", "100%FREE", "vg")
			fill(t, "/dev/vg/foreign", 9)
			run(t, "lvremove", "-y", "vg/foreign")
			size := r.status().Free / 2 / (8 * mib) * (8 * mib)
			for round := range 2 {
				var all []datastore.Volume
				for _, id := range []string{"a", "b"} {
					v := r.volume(id, size, "")
					v.UID = strings.Repeat(string(rune('0'+round)), 4) + v.UID[4:]
					r.create(v)
					all = append(all, v)
					o := r.opened(v)
					if !zeroes(t, o.Device, 0) {
						t.Errorf("round %d: volume %s shows old bytes", round, id)
					}
					fill(t, o.Device, byte(round))
					r.closed(v)
				}
				for _, v := range all {
					r.remove(v)
				}
				r.open() // also across a restart
				must(t, r.Reclaim(ctx))
			}
		})
	}
}

func TestSnapshotsAndCopiesHoldWhatTheyAreOf(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, kind)
			ctx := t.Context()
			v := r.volume("v", 40*mib, "")
			r.create(v)
			o := r.opened(v)
			before := fill(t, o.Device, 1)
			s := r.snap("snapshot-1", v, "100%")
			after := fill(t, o.Device, 2) // in use, and written to
			restored := r.clone("restored", s, 48*mib)
			copied := r.clone("copied", v, 40*mib)
			of := r.opened(restored)
			if sum(t, of.Device, 40*mib) != before || !zeroes(t, of.Device, 40*mib) {
				t.Error("what was restored is not what the snapshot is of")
			}
			if sum(t, r.opened(copied).Device, 40*mib) != after || sum(t, o.Device, 40*mib) != after {
				t.Error("the copy is not what its source was")
			}
			if f := r.found()["Whole copied"]; f.Source == nil || f.Source.ID != "v" || f.Source.UID != v.UID {
				t.Errorf("the copy's source: %+v", f.Source)
			}
			for _, w := range []datastore.Volume{v, restored, copied} {
				r.closed(w)
				r.remove(w)
			}
			again := r.clone("again", s, 40*mib) // the volume itself is gone
			if sum(t, r.opened(again).Device, 40*mib) != before {
				t.Error("the snapshot of a deleted volume has changed")
			}
			r.closed(again)
			must(t, r.Reclaim(ctx))
			r.remove(again)
			r.remove(s)
			must(t, r.Reclaim(ctx))
			must(t, r.Reclaim(ctx)) // what waited for the snapshot
			if left := r.found(); len(left) != 0 {
				t.Errorf("left: %+v", left)
			}
			if lvs := run(t, "lvs", "--noheadings", "-o", "lv_name", "vg"); lvs != "" && lvs != "pool" {
				t.Errorf("left: %s", lvs)
			}
		})
	}
}

func TestWhatIsForeignIsLeftAlone(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kind)
			ctx := t.Context()
			args := []string{"-y", "-Wn", "-Zn", "-L", "8M"}
			if kind != nil {
				args = []string{"-y", "-V", "8M", "--thinpool", "pool"}
			}
			v := r.volume("v", 8*mib, "")
			lv := "v-" + strings.ReplaceAll(v.UID, "-", "")[:8]
			run(t, "lvcreate", append(args, "-n", lv, "vg")...)
			run(t, "lvcreate", append(args, "-n", "theirs", "--addtag", "other", "vg")...)
			for what, err := range map[string]error{
				"create": func() error { _, err := r.Create(ctx, v, nil, nil); return err }(),
				"find":   func() error { _, err := r.Find(ctx, v); return err }(),
				"open":   func() error { _, err := r.Open(ctx, v, false); return err }(),
				"expand": func() error { _, err := r.Expand(ctx, v); return err }(),
				"delete": r.Delete(ctx, v, datastore.Disposal{}),
			} {
				if !fault.Is(err, fault.Precondition) {
					t.Errorf("%s: %v", what, err)
				}
			}
			w := r.volume("w", 8*mib, "")
			r.create(w)
			name := "vg/w-" + strings.ReplaceAll(w.UID, "-", "")[:8]
			mark := run(t, "lvs", "--noheadings", "-o", "lv_tags", name)
			foreign := strings.ReplaceAll(mark, cluster, "another-cluster")
			run(t, "lvchange", "--deltag", mark, "--addtag", foreign, name)
			if err := r.Delete(ctx, w, datastore.Disposal{}); !fault.Is(err, fault.Precondition) {
				t.Errorf("deleting another cluster's: %v", err)
			}
			if f, ok := r.found()["Unclear "+strings.TrimPrefix(name, "vg/")]; !ok || f.Problems[0].Reason != "ForeignMark" {
				t.Errorf("listed %+v", r.found())
			}
			must(t, r.Reclaim(ctx))
			lvs := strings.Fields(run(t, "lvs", "--noheadings", "-o", "lv_name", "vg"))
			for _, want := range []string{lv, "theirs", strings.TrimPrefix(name, "vg/")} {
				if !slices.Contains(lvs, want) {
					t.Errorf("%s is gone: %v", want, lvs)
				}
			}
		})
	}
}

func TestRetainedAndArchived(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kind)
			ctx := t.Context()
			kept, archived := r.volume("kept", 20*mib, "ext4"), r.volume("archived", 20*mib, "ext4")
			for v, policy := range map[*datastore.Volume]v1alpha1.DeletePolicy{&kept: v1alpha1.RetainData, &archived: v1alpha1.ArchiveData} {
				r.create(*v)
				must(t, r.Delete(ctx, *v, datastore.Disposal{Policy: policy}))
				must(t, r.Delete(ctx, *v, datastore.Disposal{Policy: policy}))
			}
			must(t, r.Reclaim(ctx))
			found := r.found()
			if f := found["Archived archived"]; !strings.HasPrefix(f.Location, "vg/archived.shop.data.") {
				t.Errorf("archived: %+v", found)
			}
			if f, ok := found["Retained kept"]; !ok || f.Volume.UID != kept.UID {
				t.Errorf("retained: %+v", found)
			}
			if s := r.status(); kind == nil && s.Own != 0 {
				t.Errorf("%d bytes count as promised", s.Own)
			}
		})
	}
}

// Reclaim looks at the group, and then wipes one thing after the other: what is finished meanwhile is not taken for what a broken call
// left.
func TestAVolumeThatIsFinishedDuringReclaimStays(t *testing.T) {
	r := newRig(t, 1, nil)
	gone := r.volume("a-gone", 8*mib, "")
	gone.Wipe = v1alpha1.WipeZero
	r.create(gone)
	r.remove(gone)
	v := r.volume("b-made", 16*mib, "ext4")
	blocked := func(word string) (ctx context.Context, reached, goOn chan struct{}) {
		reached, goOn = make(chan struct{}), make(chan struct{})
		var once sync.Once
		return step.WithHook(t.Context(), func(_, what string) {
			if strings.Contains(what, word) {
				once.Do(func() { close(reached); <-goOn })
			}
		}), reached, goOn
	}
	making, isMaking, goOnMaking := blocked("make ext4")
	made := make(chan error, 1)
	go func() {
		_, err := r.Create(making, v, nil, nil)
		made <- err
	}()
	await(t, isMaking)
	wiping, isWiping, goOnWiping := blocked("zero")
	reclaimed := make(chan error, 1)
	go func() { reclaimed <- r.Reclaim(wiping) }()
	await(t, isWiping)
	close(goOnMaking)
	must(t, <-made)
	close(goOnWiping)
	must(t, <-reclaimed)
	if _, err := r.Find(t.Context(), v); err != nil {
		t.Fatalf("the volume that was finished meanwhile: %v", err)
	}
	mounted(t, r.opened(v).Device, func(string) {})
	r.closed(v)
	r.remove(v)
	must(t, r.Reclaim(t.Context()))
}

// What a copy that failed was read from bears its name until it is wiped. It is no picture of the source any more.
func TestACopyIsNeverReadFromWhatAnEarlierOneLeft(t *testing.T) {
	r := newRig(t, 2, nil)
	ctx := t.Context()
	v := r.volume("source", 40*mib, "")
	r.create(v)
	want := fill(t, r.opened(v).Device, 1)
	r.closed(v)
	filler := r.volume("filler", 140*mib, "ext4")
	filler.Wipe = v1alpha1.WipeNone
	r.create(filler)
	w := r.volume("copy", 140*mib, "")
	if _, err := r.Create(ctx, w, &v, nil); !fault.Is(err, fault.Exhausted) {
		t.Fatalf("a copy that doesn't fit: %v", err)
	}
	r.remove(filler)
	if _, err := r.Create(ctx, w, &v, nil); !fault.Is(err, fault.Busy) {
		t.Errorf("with an earlier try's store in the way: %v", err)
	}
	must(t, r.Reclaim(ctx))
	_, err := r.Create(ctx, w, &v, nil)
	must(t, err)
	o := r.opened(w)
	if sum(t, o.Device, 40*mib) != want || !zeroes(t, o.Device, 40*mib) {
		t.Error("the copy is not what its source was")
	}
	r.closed(w)
}

// A copy activates its source where that is not in use. Who opens it meanwhile keeps it, also where it is not open when the copy ends.
func TestASourceThatIsOpenedDuringItsCopyStaysActive(t *testing.T) {
	r := newRig(t, 2, nil)
	v := r.volume("source", 40*mib, "")
	r.create(v)
	fill(t, r.opened(v).Device, 1)
	r.closed(v)
	var once sync.Once
	var device string
	copying := step.WithHook(t.Context(), func(_, what string) {
		if strings.Contains(what, "copy a range") {
			once.Do(func() { device = r.opened(v).Device })
		}
	})
	_, err := r.Create(copying, r.volume("copy", 40*mib, ""), &v, nil)
	must(t, err)
	if f, err := os.Open(device); err != nil {
		t.Errorf("the source was taken away from who opened it: %v", err)
	} else {
		must(t, f.Close())
	}
	r.closed(v)
}

// A raw volume that couldn't be zeroed is not whole.
func TestAVolumeThatCouldNotBeZeroedIsNotWhole(t *testing.T) {
	r := newRig(t, 2, nil)
	v := r.volume("raw", 32*mib, "")
	v.Redundancy = v1alpha1.Mirror
	var once sync.Once
	failing := step.WithHook(t.Context(), func(_, what string) {
		if strings.Contains(what, "zero a range") {
			once.Do(func() {
				for name := range strings.FieldsSeq(run(t, "dmsetup", "info", "-c", "--noheadings", "-o", "name")) {
					if strings.HasPrefix(name, "vg-raw") && !strings.Contains(name, "_r") {
						run(t, "dmsetup", "wipe_table", "--noudevsync", name) // all that is written fails
					}
				}
			})
		}
	})
	if made, err := r.Create(failing, v, nil, nil); err == nil {
		t.Errorf("made %+v of a device that fails", made)
	}
	if made, err := r.Find(t.Context(), v); !fault.Is(err, fault.NotFound) {
		t.Errorf("it is there: %+v, %v", made, err)
	}
}

func await(t *testing.T, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(2 * time.Minute):
		t.Fatal("it never came so far")
	}
}
