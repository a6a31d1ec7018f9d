package loop_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const mib = 1 << 20

func TestAnAttachedImageIsABlockDevice(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), 8*mib)
	d := attach(t, m, f, loop.Options{Name: "pvc-1", Discard: true})
	st := stat(t, f)
	want := loop.Device{
		Path: d.Path, Number: d.Number, Major: 7, Minor: d.Minor, Bytes: 8 * mib, SectorSize: 512, Discard: true, Name: "pvc-1",
		ImageDev: st.Dev, ImageInode: st.Ino,
	}
	if d != want || d.Path != fmt.Sprintf("/dev/loop%d", d.Number) {
		t.Errorf("got %+v, want %+v", d, want)
	}
	fd, closeIt := open(t, d.Path, unix.O_RDWR|unix.O_SYNC)
	if _, err := unix.Pwrite(fd, bytes.Repeat([]byte("x"), 4096), 4096); err != nil {
		t.Fatal(err)
	}
	closeIt()
	got := make([]byte, 2)
	if _, err := f.ReadAt(got, 8191); err != nil || string(got) != "x\x00" {
		t.Errorf("the image holds %q, %v", got, err)
	}
	if err := m.Detach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	gone(t, f)
	if err := m.Detach(t.Context(), f); err != nil {
		t.Errorf("a second Detach: %v", err)
	}
}

func TestAttachAgainGivesTheSameDevice(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	first := attach(t, m, f, loop.Options{Name: "a"})
	var steps []string
	ctx := step.WithHook(t.Context(), func(_, what string) { steps = append(steps, what) })
	again, err := m.Attach(ctx, f, loop.Options{Name: "b"})
	if err != nil || again != first || len(steps) != 0 {
		t.Errorf("got %+v, %v after %q, want %+v and no change", again, err, steps, first)
	}
	restarted := attach(t, manager(t), f, loop.Options{})
	if restarted != first {
		t.Errorf("after a restart %+v, want %+v", restarted, first)
	}
	reopened, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reopened.Close() }()
	if d := attach(t, m, reopened, loop.Options{}); d != first {
		t.Errorf("by another descriptor %+v, want %+v", d, first)
	}
	if got := devices(t, f); len(got) != 1 {
		t.Errorf("devices %v back the image", got)
	}
}

func TestManyAtOnceGetOneDevice(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	numbers := make([]int, 16)
	var g errgroup.Group
	for i := range numbers {
		g.Go(func() error {
			d, err := m.Attach(t.Context(), f, loop.Options{})
			numbers[i] = d.Number
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(slices.Compact(numbers)) != 1 || len(devices(t, f)) != 1 {
		t.Errorf("got devices %v; %v back the image", numbers, devices(t, f))
	}
}

func TestReadOnlyAndWritableAreTwoDevices(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	rw, ro := attach(t, m, f, loop.Options{}), attach(t, m, f, loop.Options{ReadOnly: true})
	if rw.Number == ro.Number || rw.ReadOnly || !ro.ReadOnly {
		t.Errorf("writable %+v, read-only %+v", rw, ro)
	}
	if fd, err := unix.Open(ro.Path, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		if _, err := unix.Write(fd, make([]byte, 512)); err == nil {
			t.Error("a read-only device was written to")
		}
		_ = unix.Close(fd)
	}
	for _, readOnly := range []bool{false, true} {
		d, found, err := m.Find(f, readOnly)
		if want := map[bool]loop.Device{false: rw, true: ro}[readOnly]; !found || err != nil || d != want {
			t.Errorf("Find(read-only %v) = %+v, %v, %v, want %+v", readOnly, d, found, err, want)
		}
	}
	if err := m.Detach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	gone(t, f)
}

func TestAnImageOpenForReadingOnly(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	r, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	_, err = m.Attach(t.Context(), r, loop.Options{})
	wantFault(t, err, fault.Invalid, f.Name(), "not open for reading and writing")
	if d := attach(t, m, r, loop.Options{ReadOnly: true}); !d.ReadOnly {
		t.Errorf("got %+v", d)
	}
}

func TestOptionsThatCanNotBeMet(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	for name, o := range map[string]loop.Options{
		"a sector size that is no power of two": {SectorSize: 1000},
		"a sector size below 512":               {SectorSize: 256},
		"a sector size above 4096":              {SectorSize: 8192},
		"a negative sector size":                {SectorSize: -512},
		"a name of 64 bytes":                    {Name: strings.Repeat("n", 64)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Attach(t.Context(), f, o)
			wantFault(t, err, fault.Invalid, f.Name())
		})
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	_, err = m.Attach(t.Context(), dir, loop.Options{ReadOnly: true})
	wantFault(t, err, fault.Invalid, "neither a regular file")
	if len(devices(t, f)) != 0 {
		t.Error("something was attached")
	}
}

func TestSectorSizeAndName(t *testing.T) {
	m, name := manager(t), strings.Repeat("n", 63)
	for _, size := range []int{512, 4096} {
		d := attach(t, m, image(t, t.TempDir(), mib), loop.Options{SectorSize: size, Name: name})
		if d.SectorSize != size || d.Name != name || d.Bytes != mib {
			t.Errorf("got %+v", d)
		}
	}
}

func TestAClosedImageStaysAttachedAndItsLockIsFree(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(g.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	d := attach(t, m, g, loop.Options{})
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if !backs(t, d.Path, f) {
		t.Error("closing the image detached it")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the device kept the closed file's lock: %v", err)
	}
}

func TestTheDeviceGrowsWithItsImage(t *testing.T) {
	for name, grown := range map[string]func(*loop.Manager, *os.File, loop.Device) (loop.Device, error){
		"by Refresh": func(m *loop.Manager, _ *os.File, d loop.Device) (loop.Device, error) {
			return m.Refresh(t.Context(), d)
		},
		"by Attach": func(m *loop.Manager, f *os.File, _ loop.Device) (loop.Device, error) {
			return m.Attach(t.Context(), f, loop.Options{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := manager(t), image(t, t.TempDir(), mib)
			d := attach(t, m, f, loop.Options{})
			fd, _ := open(t, d.Path, unix.O_RDWR) // in use
			if err := f.Truncate(3 * mib); err != nil {
				t.Fatal(err)
			}
			got, err := grown(m, f, d)
			d.Bytes = 3 * mib
			if err != nil || got != d {
				t.Errorf("got %+v, %v, want %+v", got, err, d)
			}
			if _, err := unix.Pwrite(fd, make([]byte, 512), 3*mib-512); err != nil {
				t.Errorf("write into the new part: %v", err)
			}
		})
	}
}

func TestRefreshOfADeviceThatBacksSomethingElse(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	d := attach(t, m, f, loop.Options{})
	for name, other := range map[string]loop.Device{
		"another inode":  {Path: d.Path, Number: d.Number, ImageDev: d.ImageDev, ImageInode: d.ImageInode + 1},
		"another way":    {Path: d.Path, Number: d.Number, ImageDev: d.ImageDev, ImageInode: d.ImageInode, ReadOnly: true},
		"no such device": {Path: "/dev/loop999999", Number: 999999, ImageDev: d.ImageDev, ImageInode: d.ImageInode},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Refresh(t.Context(), other)
			wantFault(t, err, fault.Precondition, other.Path, "no longer backs")
		})
	}
}

func TestDirectIOWhereTheFileSystemCan(t *testing.T) {
	for name, mountType := range map[string]string{"the machine's own disk": "", "tmpfs": "tmpfs", "ramfs": "ramfs"} {
		t.Run(name, func(t *testing.T) {
			m, dir := manager(t), t.TempDir()
			if mountType != "" {
				if err := unix.Mount(mountType, dir, mountType, 0, ""); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
						t.Error(err)
					}
				})
			}
			f := image(t, dir, mib)
			fd, err := unix.Open(f.Name(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			can := err == nil
			if can {
				_ = unix.Close(fd)
			}
			d := attach(t, m, f, loop.Options{DirectIO: true})
			t.Logf("open with O_DIRECT works: %v, the device uses direct I/O: %v", can, d.DirectIO)
			if d.DirectIO != can {
				t.Errorf("got direct I/O %v, want %v", d.DirectIO, can)
			}
			if d = attach(t, m, f, loop.Options{}); d.DirectIO {
				t.Error("direct I/O wasn't switched off")
			}
			if d = attach(t, m, f, loop.Options{DirectIO: true}); d.DirectIO != can {
				t.Errorf("switched on again: %v, want %v", d.DirectIO, can)
			}
			if err := os.WriteFile(d.Path, bytes.Repeat([]byte("y"), 4096), 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNothingIsDoneForACancelledCall(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	d := attach(t, m, f, loop.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := image(t, t.TempDir(), mib)
	if _, err := m.Attach(ctx, other, loop.Options{}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Attach: %v", err)
	}
	if _, err := m.Refresh(ctx, d); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Refresh: %v", err)
	}
	if err := m.Detach(ctx, f); !fault.Is(err, fault.Unavailable) || !backs(t, d.Path, f) {
		t.Errorf("Detach: %v", err)
	}
}

func TestAWaitingCallCanBeCancelled(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	slow := step.WithHook(t.Context(), func(string, string) {
		first.Do(func() {
			close(inside)
			<-goOn
		})
	})
	var g errgroup.Group
	g.Go(func() error { _, err := m.Attach(slow, f, loop.Options{}); return err })
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	g.Go(func() error { waiting <- m.Detach(ctx, f); return nil })
	// Another image's work isn't held up.
	attach(t, m, image(t, t.TempDir(), mib), loop.Options{})
	cancel()
	if err := <-waiting; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the call that waited: %v", err)
	}
	close(goOn)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
