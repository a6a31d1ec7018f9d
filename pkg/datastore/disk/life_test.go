package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestALifeOfEachKindOfVolume(t *testing.T) {
	for _, sector := range sectors() {
		for _, kind := range []string{"raw", "ext4", "xfs", "btrfs"} {
			t.Run(fmt.Sprintf("%s with sectors of %d", kind, sector), func(t *testing.T) {
				d := newDrive(t, diskBytes, sector)
				p := open(t, config(d))
				v := raw("v", 310*mib+1)
				if kind != "raw" {
					v = formatted(v, kind)
				}
				m := create(t, p, v)
				if m.Bytes != 311*mib || m.Identity == "" {
					t.Fatalf("made %+v", m)
				}
				if again := create(t, p, v); again != m {
					t.Errorf("created again it is %+v, was %+v", again, m)
				}
				if found, err := p.Find(t.Context(), v); err != nil || found != m {
					t.Errorf("found %+v, %v", found, err)
				}
				if len(d.devices()) != 0 {
					t.Errorf("the kernel has %v of a volume that nobody opened", d.devices())
				}
				o, err := p.Open(t.Context(), v, false)
				must(t, err)
				if o.Bytes != m.Bytes || o.Identity != m.Identity {
					t.Errorf("opened %+v", o)
				}
				use(t, p, v, o.Device, kind)
				detach(t, p, v)
				if len(d.devices()) != 0 {
					t.Errorf("closed, the kernel still has %v", d.devices())
				}
				remove(t, p, v)
				if d.partitions() != 0 {
					t.Errorf("deleted, the table has\n%s", d.table())
				}
				if s := status(t, p); s.Used != 0 || s.Own != 0 || s.Free != diskBytes-taken {
					t.Errorf("deleted, measured %+v", s)
				}
				if _, err := p.Find(t.Context(), v); !fault.Is(err, fault.NotFound) {
					t.Errorf("deleted, found with %v", err)
				}
			})
		}
	}
}

// use writes to a volume, grows it while it is in use, and finds what was written.
func use(t *testing.T, p datastore.Pool, v datastore.Volume, device, kind string) {
	t.Helper()
	larger := v
	larger.Bytes = 400 * mib
	if kind == "raw" {
		if !holds(t, device, "", 0, 311*mib) {
			t.Error("a new raw volume doesn't read as zeroes")
		}
		write(t, device, "mine", 311*mib)
		m, err := p.Expand(t.Context(), larger)
		must(t, err)
		if m.Bytes != 400*mib || !holds(t, device, "mine", 0, 311*mib) || !holds(t, device, "", 311*mib, 400*mib) {
			t.Errorf("grown to %d bytes, it has lost data or shows old bytes", m.Bytes)
		}
		return
	}
	dir, unmount := mount(t, device, kind, "")
	must(t, os.WriteFile(filepath.Join(dir, "f"), pattern("mine", 0), 0o600))
	wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, "in use")
	if used, err := datastore.InUse(t.Context(), p, v); err != nil || !used {
		t.Errorf("mounted, in use is %v, %v", used, err)
	}
	must(t, p.Close(t.Context(), v)) // still in use is success
	m, err := p.Expand(t.Context(), larger)
	must(t, err)
	if can, err := filesystem.GrowsMounted(filesystem.Type(kind)); err != nil || can {
		_, _, grown := filesystem.Grow(t.Context(), dir, filesystem.Type(kind), m.Bytes)
		must(t, errors.Join(err, grown))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !slices.Equal(b, pattern("mine", 0)) {
		t.Errorf("grown, the file has another content, %v", err)
	}
	unmount()
	if used, err := datastore.InUse(t.Context(), p, v); err != nil || used {
		t.Errorf("unmounted, in use is %v, %v", used, err)
	}
}

func TestNewRawVolumesNeverShowOldBytes(t *testing.T) {
	for _, wipe := range []v1alpha1.WipePolicy{"", v1alpha1.WipeZero, v1alpha1.WipeDiscard, v1alpha1.WipeNone} {
		t.Run("wipe "+string(wipe), func(t *testing.T) {
			const size = 128 * mib
			d := newDrive(t, size+taken, 512)
			p := open(t, config(d))
			v := raw("old", size)
			create(t, p, v)
			write(t, attach(t, p, v), "secret", size)
			detach(t, p, v)
			must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.DeleteData, Wipe: wipe}))
			_, err := p.Create(t.Context(), raw("early", size), nil, nil)
			wantKind(t, err, fault.Exhausted)
			must(t, p.Reclaim(t.Context()))
			for i := range 4 { // the whole pool
				next := raw(fmt.Sprint("new", i), size/4)
				create(t, p, next)
				if !holds(t, attach(t, p, next), "", 0, size/4) {
					t.Errorf("volume %d shows old bytes", i)
				}
				detach(t, p, next)
			}
		})
	}
}

func TestDeleteReturnsAtOnceAndTheWipeGoesOnAfterARestart(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	p := open(t, c)
	v := raw("v", 100*mib)
	create(t, p, v)
	write(t, attach(t, p, v), "secret", 100*mib)
	detach(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	if s := status(t, p); s.Own != 0 || s.Used != 100*mib {
		t.Errorf("before the wipe, measured %+v", s)
	}
	found, err := p.List(t.Context())
	must(t, err)
	if len(found) != 1 || found[0].State != datastore.FoundRemainder {
		t.Errorf("before the wipe, listed %+v", found)
	}
	c.PoolUUID = status(t, p).UUID
	again := open(t, c)
	must(t, again.Reclaim(t.Context()))
	if s := status(t, again); s.Used != 0 {
		t.Errorf("after the wipe, measured %+v", s)
	}
}

func TestNeighboursStayMounted(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	p := open(t, config(d))
	v := formatted(raw("mounted", 64*mib), "ext4")
	create(t, p, v)
	device := attach(t, p, v)
	dir, unmount := mount(t, device, "ext4", "")
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("here"), 0o600))
	for i := range 3 {
		other := raw(fmt.Sprint("other", i), 32*mib)
		create(t, p, other)
		attach(t, p, other)
		other.Bytes = 48 * mib
		if _, err := p.Expand(t.Context(), other); err != nil {
			t.Error(err)
		}
		detach(t, p, other)
		remove(t, p, other)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "here" {
		t.Errorf("read %q, %v", b, err)
	}
	if !slices.Equal(d.devices(), []string{filepath.Base(device)}) {
		t.Errorf("the kernel has %v", d.devices())
	}
	unmount()
	detach(t, p, v)
}

func TestWhereVolumesGo(t *testing.T) {
	small, large := newDrive(t, 100*mib+taken, 512), newDrive(t, 300*mib+taken, 4096)
	p := open(t, config(small, large))
	if s := status(t, p); s.Total != 400*mib || s.Free != 400*mib || s.Largest != 300*mib {
		t.Errorf("measured %+v", s)
	}
	_, err := p.Create(t.Context(), raw("huge", 301*mib), nil, nil)
	wantKind(t, err, fault.Exhausted, "in one piece", fmt.Sprint(300*mib))
	if small.partitions()+large.partitions() != 0 {
		t.Error("something is left of what didn't fit")
	}
	create(t, p, raw("a", 40*mib))
	create(t, p, raw("b", 40*mib))
	if small.partitions() != 2 || large.partitions() != 0 {
		t.Errorf("best fit put them on\n%s\n%s", small.table(), large.table())
	}
	create(t, p, raw("c", 250*mib))
	_, err = p.Expand(t.Context(), raw("a", 41*mib))
	wantKind(t, err, fault.Exhausted, "right behind")
	_, err = p.Expand(t.Context(), raw("b", 61*mib))
	wantKind(t, err, fault.OutOfRange, "at most", fmt.Sprint(60*mib))
	if m, err := p.Expand(t.Context(), raw("b", 60*mib)); err != nil || m.Bytes != 60*mib {
		t.Errorf("as large as can be: %+v, %v", m, err)
	}
	if m, err := p.Expand(t.Context(), raw("b", 10*mib)); err != nil || m.Bytes != 60*mib {
		t.Errorf("never smaller: %+v, %v", m, err)
	}
}

func TestACloneOfWhatNobodyUses(t *testing.T) {
	for _, kind := range []string{"raw", "ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			p := open(t, config(newDrive(t, diskBytes, 512), newDrive(t, diskBytes, 512)))
			v, w := raw("source", 320*mib), raw("copy", 340*mib)
			if kind != "raw" {
				v, w = formatted(v, kind), formatted(w, kind)
			}
			create(t, p, v)
			device := attach(t, p, v)
			if kind == "raw" {
				write(t, device, "mine", 320*mib)
			} else {
				dir, unmount := mount(t, device, kind, "")
				must(t, os.WriteFile(filepath.Join(dir, "f"), pattern("mine", 0), 0o600))
				_, err := p.Create(t.Context(), w, &v, nil)
				wantKind(t, err, fault.Precondition, "in use")
				unmount()
			}
			detach(t, p, v)
			var told []int64
			m, err := p.Create(t.Context(), w, &v, func(done, total int64) { told = append(told, done, total) })
			must(t, err)
			if m.Bytes != 340*mib || len(told) < 4 || told[len(told)-1] != 320*mib || told[len(told)-2] != 320*mib {
				t.Errorf("made %+v, told %d", m, told)
			}
			device = attach(t, p, w)
			if kind == "raw" {
				if !holds(t, device, "mine", 0, 320*mib) || !holds(t, device, "", 320*mib, 340*mib) {
					t.Error("the copy differs")
				}
			} else {
				options := ""
				if kind == "xfs" {
					options = "nouuid"
				}
				_, unmountSource := mount(t, attach(t, p, v), kind, "")
				dir, unmount := mount(t, device, kind, options)
				if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !slices.Equal(b, pattern("mine", 0)) {
					t.Errorf("the copy differs, %v", err)
				}
				unmount()
				unmountSource()
				detach(t, p, v)
			}
			detach(t, p, w)
			_, err = p.Create(t.Context(), raw("less", 10*mib), &v, nil)
			if kind == "raw" {
				wantKind(t, err, fault.OutOfRange)
			} else {
				wantKind(t, err, fault.Invalid)
			}
			remove(t, p, v)
			remove(t, p, w)
			if s := status(t, p); s.Used != 0 {
				t.Errorf("measured %+v", s)
			}
		})
	}
}

func TestSnapshotsAreRefused(t *testing.T) {
	p := open(t, config(newDrive(t, diskBytes, 512)))
	v := raw("v", 10*mib)
	create(t, p, v)
	snap := raw("s", 10*mib)
	snap.Snapshot = true
	_, err := p.Snapshot(t.Context(), v, snap, nil)
	wantKind(t, err, fault.Invalid, "lvm", "directory")
	_, err = p.Create(t.Context(), raw("w", 10*mib), &snap, nil)
	wantKind(t, err, fault.NotFound)
	must(t, p.Delete(t.Context(), snap, datastore.Disposal{}))
}

func TestRetainedVolumesStay(t *testing.T) {
	p := open(t, config(newDrive(t, diskBytes, 512)))
	v := raw("v", 10*mib)
	create(t, p, v)
	write(t, attach(t, p, v), "mine", 10*mib)
	detach(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.RetainData}))
	must(t, p.Reclaim(t.Context()))
	found, err := p.List(t.Context())
	must(t, err)
	if len(found) != 1 || found[0].State != datastore.FoundRetained || found[0].Volume.ID != "v" {
		t.Fatalf("listed %+v", found)
	}
	if !holds(t, attach(t, p, v), "mine", 0, 10*mib) {
		t.Error("its bytes are gone")
	}
	detach(t, p, v)
}

func TestRequestsThatAreRefused(t *testing.T) {
	p := open(t, config(newDrive(t, diskBytes, 512)))
	alter := func(change func(*datastore.Volume)) datastore.Volume {
		v := raw("v", 10*mib)
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		v    datastore.Volume
		kind fault.Kind
	}{
		"an ID that is a path":   {alter(func(v *datastore.Volume) { v.ID = "../x" }), fault.Invalid},
		"no UID":                 {alter(func(v *datastore.Volume) { v.UID = "" }), fault.Invalid},
		"another cluster":        {alter(func(v *datastore.Volume) { v.ClusterID = "b" }), fault.Precondition},
		"thin":                   {alter(func(v *datastore.Volume) { v.Provisioning = v1alpha1.Thin }), fault.Invalid},
		"an image":               {alter(func(v *datastore.Volume) { v.Format = v1alpha1.FormatImage }), fault.Invalid},
		"too small for its xfs":  {formatted(raw("v", 10*mib), "xfs"), fault.Invalid},
		"an unknown file system": {formatted(raw("v", 10*mib), "ntfs"), fault.Invalid},
		"labels without end": {alter(func(v *datastore.Volume) {
			v.Labels = map[string]string{"a": string(make([]byte, 40<<10))}
		}), fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Create(t.Context(), c.v, nil, nil)
			wantKind(t, err, c.kind)
		})
	}
	must(t, p.Reclaim(t.Context()))
	if s := status(t, p); s.Used != 0 {
		t.Errorf("measured %+v", s)
	}
}

func TestAReaderBesideAWriter(t *testing.T) {
	d := newDrive(t, diskBytes, 4096)
	p := open(t, config(d))
	v := raw("v", 10*mib)
	create(t, p, v)
	device := attach(t, p, v)
	write(t, device, "mine", 10*mib)
	o, err := p.Open(t.Context(), v, true)
	must(t, err)
	if o.Bytes != 10*mib || !holds(t, o.Device, "mine", 0, 10*mib) {
		t.Errorf("opened %+v", o)
	}
	f, err := os.OpenFile(o.Device, os.O_RDWR, 0)
	if err == nil {
		_, err = f.Write([]byte("x"))
		_ = f.Close() // nothing was written
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS) {
		t.Errorf("written to: %v", err)
	}
	write(t, device, "more", 10*mib) // who may write still can
	if used, err := datastore.InUse(t.Context(), p, v); err != nil || !used {
		t.Errorf("with a reader's device, in use is %v, %v", used, err)
	}
	if _, err := p.Expand(t.Context(), raw("v", 20*mib)); err != nil {
		t.Error(err)
	}
	if size := run(t, "blockdev", "--getsize64", o.Device); size != fmt.Sprint(20*mib) {
		t.Errorf("grown, the reader's device has %s bytes", size)
	}
	detach(t, p, v)
	if len(d.devices()) != 0 {
		t.Errorf("closed, the kernel has %v", d.devices())
	}
}
