package disk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/disk"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// job is a call that a child process makes, to die in the middle of it.
type job struct {
	Call, PoolUUID string
	Devices        []string
	Volume         datastore.Volume
	From           *datastore.Volume
	// DieAt is the number of the point before which it dies by SIGKILL.
	DieAt int
}

// jobVariable holds a job for this test binary, run again.
const jobVariable = "DATASTORE_CSI_TEST_JOB"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runJob(text); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func runJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	n := 0
	ctx := step.WithHook(context.Background(), func(_, what string) {
		if n++; n == j.DieAt {
			fmt.Print(what)
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	c := config()
	c.Datastore.Spec.Disk.Devices, c.PoolUUID = j.Devices, j.PoolUUID
	p, err := disk.Type().New(ctx, c)
	if err != nil {
		return err
	}
	switch j.Call {
	case "create":
		_, err = p.Create(ctx, j.Volume, j.From, nil)
	case "expand":
		_, err = p.Expand(ctx, j.Volume)
	case "delete":
		if err = p.Delete(ctx, j.Volume, datastore.Disposal{}); err == nil {
			err = p.Reclaim(ctx)
		}
	}
	return err
}

// crashes runs a job in a process of its own and kills it before its first change, then before its second and so
// on, until it comes through. Each time next returns the job, and died is called after each death.
func crashes(t *testing.T, next func() job, died func(point string)) {
	t.Helper()
	for k := 1; ; k++ {
		j := next()
		j.DieAt = k
		text, err := json.Marshal(j)
		must(t, err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL {
			died(string(out))
			continue
		}
		if err != nil {
			t.Fatalf("the child's %s failed: %v: %s", j.Call, err, out)
		}
		if t.Logf("%s has %d points", j.Call, k-1); k < 3 {
			t.Error("too few for a test")
		}
		return
	}
}

func TestTakingADiskDiesAnywhere(t *testing.T) {
	for _, sector := range sectors() {
		t.Run(fmt.Sprint("sectors of ", sector), func(t *testing.T) {
			var d *drive
			crashes(t, func() job {
				if d != nil {
					d.pull()
				}
				d = newDrive(t, 128*mib, sector)
				return job{Call: "open", Devices: []string{d.path}}
			}, func(point string) {
				p := open(t, config(d))
				create(t, p, raw("v", 10*mib))
				remove(t, p, raw("v", 10*mib))
				if s := status(t, p); s.Used != 0 || s.Total != 128*mib-taken {
					t.Errorf("died before %q, measured %+v", point, s)
				}
			})
		})
	}
}

func TestCreateDiesAnywhereAndIsRepeated(t *testing.T) {
	for name, v := range map[string]datastore.Volume{
		"raw": raw("v", 130*mib), "ext4": formatted(raw("v", 64*mib), "ext4"), "xfs": formatted(raw("v", 300*mib), "xfs"), "btrfs": formatted(raw("v", 256*mib), "btrfs"),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t, diskBytes, 512)
			c := config(d)
			uuid := status(t, open(t, c)).UUID
			c.PoolUUID = uuid
			first := true
			crashes(t, func() job {
				if first = !first; first {
					// Every second time on space where somebody's bytes may lie.
					soil(t, open(t, c))
				}
				return job{Call: "create", Devices: []string{d.path}, PoolUUID: uuid, Volume: v}
			}, func(point string) {
				p := open(t, c)
				m := create(t, p, v)
				device := attach(t, p, v)
				if name == "raw" && !holds(t, device, "", 0, m.Bytes) {
					t.Errorf("died before %q: it shows old bytes", point)
				}
				if name != "raw" {
					_, unmount := mount(t, device, name, "")
					unmount()
				}
				detach(t, p, v)
				remove(t, p, v)
				wantNothing(t, d, p, point)
			})
		})
	}
}

// soil writes to all of a pool and gives it back as it is.
func soil(t *testing.T, p datastore.Pool) {
	t.Helper()
	size := status(t, p).Free
	v := raw("soil", size)
	v.Wipe = "None"
	create(t, p, v)
	write(t, attach(t, p, v), "old", 200*mib)
	detach(t, p, v)
	must(t, p.Delete(t.Context(), v, datastore.Disposal{Wipe: "None"}))
	must(t, p.Reclaim(t.Context()))
}

func wantNothing(t *testing.T, d *drive, p datastore.Pool, point string) {
	t.Helper()
	s := status(t, p)
	if s.Used != 0 || s.Own != 0 || d.partitions() != 0 || len(d.devices()) != 0 {
		t.Errorf("died before %q: used are %d, own %d, the kernel has %v, the table\n%s", point, s.Used, s.Own, d.devices(), d.table())
	}
	found, err := p.List(t.Context())
	if must(t, err); len(found) != 0 {
		t.Errorf("died before %q: listed %+v", point, found)
	}
}

func TestCreateDiesAnywhereAndIsNeverRepeated(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	c.PoolUUID = status(t, open(t, c)).UUID
	v := raw("v", 130*mib)
	crashes(t, func() job {
		return job{Call: "create", Devices: []string{d.path}, PoolUUID: c.PoolUUID, Volume: v}
	}, func(point string) {
		p := open(t, c)
		must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
		must(t, p.Reclaim(t.Context()))
		wantNothing(t, d, p, point)
	})
}

func TestACloneDiesAnywhereAndGoesOn(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	p := open(t, c)
	c.PoolUUID = status(t, p).UUID
	v, w := raw("source", 130*mib), raw("copy", 140*mib)
	create(t, p, v)
	write(t, attach(t, p, v), "mine", 130*mib)
	detach(t, p, v)
	crashes(t, func() job {
		return job{Call: "create", Devices: []string{d.path}, PoolUUID: c.PoolUUID, Volume: w, From: &v}
	}, func(point string) {
		p := open(t, c)
		_, err := p.Create(t.Context(), w, &v, nil)
		must(t, err)
		device := attach(t, p, w)
		if !holds(t, device, "mine", 0, 130*mib) || !holds(t, device, "", 130*mib, 140*mib) {
			t.Errorf("died before %q: the copy differs", point)
		}
		detach(t, p, w)
		remove(t, p, w)
		if d.partitions() != 1 || len(d.devices()) != 0 {
			t.Errorf("died before %q: the kernel has %v, the table\n%s", point, d.devices(), d.table())
		}
	})
}

// Space that read as zeroes does so no more once a copy was begun there, also where it died before it noted anything: zeroes of a source that
// was written to since must be copied.
func TestACloneIntoCleanSpaceDiesAndItsSourceChanges(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	p := open(t, c)
	c.PoolUUID = status(t, p).UUID
	v, w := raw("source", 130*mib), raw("copy", 130*mib)
	create(t, p, v)
	create(t, p, w)
	remove(t, p, w) // which zeroes its space
	crashes(t, func() job {
		p := open(t, c)
		write(t, attach(t, p, v), "mine", 130*mib)
		detach(t, p, v)
		return job{Call: "create", Devices: []string{d.path}, PoolUUID: c.PoolUUID, Volume: w, From: &v}
	}, func(point string) {
		p := open(t, c)
		want := ""
		if _, err := p.Find(t.Context(), w); err == nil {
			want = "mine" // it was whole
		}
		run(t, "dd", "if=/dev/zero", "of="+attach(t, p, v), "bs=1M", "count=130", "conv=fsync", "status=none")
		detach(t, p, v)
		_, err := p.Create(t.Context(), w, &v, nil)
		must(t, err)
		if !holds(t, attach(t, p, w), want, 0, 130*mib) {
			t.Errorf("died before %q: the copy differs", point)
		}
		detach(t, p, w)
		remove(t, p, w)
	})
}

func TestExpandDiesAnywhereAndIsRepeated(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	p := open(t, c)
	c.PoolUUID = status(t, p).UUID
	v, larger := raw("v", 50*mib), raw("v", 150*mib)
	for name, repeat := range map[string]bool{"repeated": true, "given up": false} {
		t.Run(name, func(t *testing.T) {
			crashes(t, func() job {
				p := open(t, c)
				remove(t, p, v)
				soil(t, p)
				create(t, p, v)
				write(t, attach(t, p, v), "mine", 50*mib)
				return job{Call: "expand", Devices: []string{d.path}, PoolUUID: c.PoolUUID, Volume: larger}
			}, func(point string) {
				p := open(t, c)
				want := 150 * mib
				if repeat {
					m, err := p.Expand(t.Context(), larger)
					must(t, err)
					if m.Bytes != want {
						t.Errorf("died before %q: made %+v", point, m)
					}
				} else {
					must(t, p.Reclaim(t.Context()))
					m, err := p.Find(t.Context(), v)
					must(t, err)
					if want = m.Bytes; want != 50*mib && want != 150*mib || status(t, p).Used != want {
						t.Errorf("died before %q: made %+v, measured %+v", point, m, status(t, p))
					}
				}
				o, err := p.Open(t.Context(), v, false)
				must(t, err)
				if o.Bytes != want || !holds(t, o.Device, "mine", 0, 50*mib) || !holds(t, o.Device, "", 50*mib, want) {
					t.Errorf("died before %q: of %d bytes, some are wrong", point, o.Bytes)
				}
				detach(t, p, v)
			})
			detach(t, open(t, c), v)
		})
	}
}

func TestDeleteAndWipeDieAnywhere(t *testing.T) {
	d := newDrive(t, 200*mib+taken, 512)
	c := config(d)
	p := open(t, c)
	c.PoolUUID = status(t, p).UUID
	v, all := raw("v", 130*mib), raw("all", 200*mib)
	crashes(t, func() job {
		p := open(t, c)
		create(t, p, v)
		write(t, attach(t, p, v), "secret", 130*mib)
		detach(t, p, v)
		return job{Call: "delete", Devices: []string{d.path}, PoolUUID: c.PoolUUID, Volume: v}
	}, func(point string) {
		p := open(t, c)
		must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
		must(t, p.Reclaim(t.Context()))
		wantNothing(t, d, p, point)
		create(t, p, all)
		if !holds(t, attach(t, p, all), "", 0, 200*mib) {
			t.Errorf("died before %q: a new volume shows old bytes", point)
		}
		detach(t, p, all)
		remove(t, p, all)
	})
}

func TestAMarkIsWrittenNeverInBothHalvesAtOnce(t *testing.T) {
	d := newDrive(t, diskBytes, 512)
	c := config(d)
	p := open(t, c)
	c.PoolUUID = status(t, p).UUID
	v := raw("v", 10*mib)
	create(t, p, v)
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	// Partition 2 is the first volume's: its slots are the third of each half.
	for half := range int64(2) {
		at := mib + half*8*mib + 2*32<<10
		b := make([]byte, 4096)
		_, err := f.ReadAt(b, at)
		must(t, err)
		_, err = f.WriteAt(make([]byte, 4096), at+100&^511)
		must(t, err)
		must(t, f.Sync())
		p := open(t, c)
		if _, err := p.Find(t.Context(), v); err != nil {
			t.Errorf("half %d is damaged: %v", half, err)
		}
		// Opening has mended it.
		mended := make([]byte, 4096)
		g, err := os.Open(d.path)
		must(t, err)
		_, err = g.ReadAt(mended, at)
		must(t, errors.Join(err, g.Close()))
		if string(mended) != string(b) {
			t.Errorf("half %d wasn't mended", half)
		}
	}
}
