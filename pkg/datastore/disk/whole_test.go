package disk_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func wholeConfig(drives ...*drive) datastore.Config {
	c := config(drives...)
	c.Datastore.Spec.Disk.Whole = true
	return c
}

// chosen gives a volume the place that its record would name.
func chosen(t *testing.T, p datastore.Pool, v datastore.Volume, others ...datastore.Volume) datastore.Volume {
	t.Helper()
	location, err := datastore.Choose(t.Context(), p, v, nil, others)
	must(t, err)
	if location == "" {
		t.Fatal("no place was chosen")
	}
	v.Location = location
	return v
}

// made creates a volume as the agent does and returns it as its record says.
func made(t *testing.T, p datastore.Pool, v datastore.Volume, others ...datastore.Volume) datastore.Volume {
	t.Helper()
	v = chosen(t, p, v, others...)
	m := create(t, p, v)
	v.Identity = m.Identity
	return v
}

func TestALifeOfAWholeDisk(t *testing.T) {
	for _, kind := range []string{"raw", "ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			small, large := newDrive(t, 400*mib, 512), newDrive(t, 500*mib, 4096)
			p := open(t, wholeConfig(large, small))
			v := raw("v", 310*mib)
			if kind != "raw" {
				v = formatted(v, kind)
			}
			v = made(t, p, v)
			if s := status(t, p); s.Own != 400*mib || s.Free != 500*mib || s.Total != 900*mib {
				t.Errorf("the smallest that fits has 400 MiB; measured %+v", s)
			}
			o, err := p.Open(t.Context(), v, false)
			must(t, err)
			if o.Device != small.path || o.Bytes != 400*mib {
				t.Errorf("opened %+v", o)
			}
			if kind == "raw" {
				if !holds(t, o.Device, "", 0, 400*mib) {
					t.Error("a new raw volume doesn't read as zeroes")
				}
				write(t, o.Device, "secret", 400*mib)
			} else {
				dir, unmount := mount(t, o.Device, kind, "")
				must(t, os.WriteFile(filepath.Join(dir, "f"), pattern("secret", 0), 0o600))
				wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, "in use")
				unmount()
			}
			detach(t, p, v)
			again := open(t, wholeConfig(small, large)) // which knows of it by its record only
			if m, err := again.Find(t.Context(), v); err != nil || m.Bytes != 400*mib {
				t.Errorf("found %+v, %v", m, err)
			}
			must(t, again.Delete(t.Context(), v, datastore.Disposal{}))
			if s := status(t, again); s.Own != 0 || s.Free != 500*mib || s.Used != 400*mib {
				t.Errorf("before the wipe, measured %+v", s)
			}
			must(t, open(t, wholeConfig(small, large)).Reclaim(t.Context()))
			next := made(t, again, raw("next", 390*mib))
			if !holds(t, attach(t, again, next), "", 0, 400*mib) {
				t.Error("the next volume shows old bytes")
			}
		})
	}
}

func TestAWholeDiskIsTakenOnlyWhereItIsFree(t *testing.T) {
	foreign, ours := newDrive(t, 300*mib, 512), newDrive(t, 400*mib, 512)
	run(t, "mkfs.ext4", "-q", foreign.path)
	p := open(t, wholeConfig(foreign, ours))
	v := chosen(t, p, raw("v", 100*mib))
	w := raw("w", 100*mib)
	_, err := datastore.Choose(t.Context(), p, w, nil, []datastore.Volume{v})
	wantKind(t, err, fault.Exhausted)
	// A process that starts anew knows by the records.
	_, err = datastore.Choose(t.Context(), open(t, wholeConfig(foreign, ours)), w, nil, []datastore.Volume{v})
	wantKind(t, err, fault.Exhausted)
	// Somebody formats the disk between its choice and its making.
	run(t, "mkfs.ext4", "-q", ours.path)
	before := run(t, "sha256sum", ours.image)
	_, err = p.Create(t.Context(), v, nil, nil)
	wantKind(t, err, fault.Precondition, "ext4")
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Reclaim(t.Context()))
	if run(t, "sha256sum", ours.image) != before {
		t.Error("a stranger's disk was written to")
	}
}

func TestAWholeDiskIsFoundUnderAnotherName(t *testing.T) {
	a, b := newDrive(t, 300*mib, 512), newDrive(t, 400*mib, 512)
	c := wholeConfig(a, b)
	p := open(t, c)
	v, w := made(t, p, raw("v", 300*mib)), made(t, p, raw("w", 400*mib))
	write(t, attach(t, p, v), "in v", 300*mib)
	write(t, attach(t, p, w), "in w", 400*mib)
	a.pull()
	b.pull()
	b.plug()
	a.plug()
	p = open(t, wholeConfig(a, b))
	if !holds(t, attach(t, p, v), "in v", 0, 300*mib) || !holds(t, attach(t, p, w), "in w", 0, 400*mib) {
		t.Error("a volume is on another disk")
	}
	b.pull()
	_, err := p.Open(t.Context(), w, false)
	wantKind(t, err, fault.Unavailable)
	problems, err := datastore.Examine(t.Context(), p, w)
	if must(t, err); len(problems) != 1 || problems[0].Reason != "DiskMissing" {
		t.Errorf("told %+v", problems)
	}
	if _, err := p.Find(t.Context(), v); err != nil {
		t.Errorf("the other: %v", err)
	}
	wantKind(t, p.Delete(t.Context(), w, datastore.Disposal{}), fault.Unavailable)
}

func TestACloneOfAWholeDisk(t *testing.T) {
	a, b := newDrive(t, 300*mib, 512), newDrive(t, 302*mib, 512)
	p := open(t, wholeConfig(a, b))
	v := made(t, p, raw("v", 300*mib))
	write(t, attach(t, p, v), "mine", 300*mib)
	w := raw("w", 300*mib)
	location, err := datastore.Choose(t.Context(), p, w, &v, []datastore.Volume{v})
	must(t, err)
	w.Location = location
	m, err := p.Create(t.Context(), w, &v, nil)
	must(t, err)
	w.Identity = m.Identity
	device := attach(t, p, w)
	if !holds(t, device, "mine", 0, 300*mib) || !holds(t, device, "", 300*mib, 302*mib) {
		t.Error("the copy differs")
	}
}

// died is what the hook of a call panics with that is to die there.
type died struct{ at int }

func TestWorkOnAWholeDiskDiesAnywhere(t *testing.T) {
	for name, v := range map[string]datastore.Volume{"raw": raw("v", 100*mib), "ext4": formatted(raw("v", 100*mib), "ext4")} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t, 130*mib, 512)
			deaths := 0
			for at := 1; ; at++ {
				p := open(t, wholeConfig(d))
				v := chosen(t, p, v)
				ended := dies(t, at, func(ctx context.Context) error { _, err := p.Create(ctx, v, nil, nil); return err })
				if !ended {
					deaths++
				}
				p = open(t, wholeConfig(d))
				v.Identity = create(t, p, v).Identity
				device := attach(t, p, v)
				if name == "raw" && !holds(t, device, "", 0, 130*mib) {
					t.Errorf("died before point %d, it shows old bytes", at)
				}
				if name == "ext4" {
					_, unmount := mount(t, device, "ext4", "")
					unmount()
				} else {
					write(t, device, "secret", 130*mib)
				}
				detach(t, p, v)
				wiped := dies(t, at, func(ctx context.Context) error {
					if err := p.Delete(ctx, v, datastore.Disposal{}); err != nil {
						return err
					}
					return p.Reclaim(ctx)
				})
				p = open(t, wholeConfig(d))
				must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
				must(t, p.Reclaim(t.Context()))
				if s := status(t, p); s.Free != 130*mib || s.Used != 0 {
					t.Fatalf("died before point %d, measured %+v", at, s)
				}
				if ended && wiped {
					break
				}
			}
			if deaths < 3 {
				t.Errorf("%d deaths are too few for a test", deaths)
			}
		})
	}
}

// dies calls what is to die before its point of that number, and tells whether it ended before.
func dies(t *testing.T, at int, call func(context.Context) error) (ended bool) {
	t.Helper()
	n := 0
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(died); !ok {
				panic(r)
			}
		}
	}()
	err := call(step.WithHook(t.Context(), func(_, _ string) {
		if n++; n == at {
			panic(died{at})
		}
	}))
	must(t, err)
	return true
}

func TestRetainedWholeDisksStay(t *testing.T) {
	d := newDrive(t, 130*mib, 512)
	p := open(t, wholeConfig(d))
	v := made(t, p, raw("v", 100*mib))
	write(t, attach(t, p, v), "mine", 130*mib)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.RetainData}))
	must(t, p.Reclaim(t.Context()))
	_, err := datastore.Choose(t.Context(), p, raw("w", 10*mib), nil, nil)
	wantKind(t, err, fault.Exhausted)
	b, err := os.ReadFile(d.path)
	if must(t, err); !bytes.HasPrefix(b, pattern("mine", 0)) {
		t.Error("its bytes are gone")
	}
}
