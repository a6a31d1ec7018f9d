package loop_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// allocated makes an image that has all its blocks.
func allocated(t *testing.T, dir string, size int64) *os.File {
	t.Helper()
	f := image(t, dir, size)
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		t.Fatal(err)
	}
	return f
}

// rangeIoctl makes one of the ioctls that take offset and length in bytes.
func rangeIoctl(fd int, request uint, offset, length uint64) error {
	r := [2]uint64{offset, length}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

// punchers are the ways in which space that an image holds can be given back through its device.
func punchers() map[string]func(fd int) error {
	const part = 4 * mib
	return map[string]func(fd int) error{
		"BLKDISCARD":            func(fd int) error { return rangeIoctl(fd, unix.BLKDISCARD, 0*part, part) },
		"BLKSECDISCARD":         func(fd int) error { return rangeIoctl(fd, unix.BLKSECDISCARD, 1*part, part) },
		"BLKZEROOUT":            func(fd int) error { return rangeIoctl(fd, unix.BLKZEROOUT, 2*part, part) },
		"fallocate, zero range": func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 3*part, part) },
		"fallocate, zero range, keep size": func(fd int) error {
			return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 4*part, part)
		},
		"fallocate, punch hole": func(fd int) error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5*part, part)
		},
		"fallocate, punch hole, no hide stale": func(fd int) error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_NO_HIDE_STALE, 6*part, part)
		},
	}
}

func TestNothingMakesHolesWhereDiscardIsOff(t *testing.T) {
	for name, punch := range punchers() {
		t.Run(name, func(t *testing.T) {
			m, f := manager(t), allocated(t, t.TempDir(), 32*mib)
			before := stat(t, f).Blocks
			d := attach(t, m, f, loop.Options{DirectIO: true})
			fd, closeIt := open(t, d.Path, unix.O_RDWR)
			err := punch(fd)
			closeIt()
			if after := stat(t, f).Blocks; after < before {
				t.Errorf("%d of %d blocks are left (%v)", after, before, err)
			}
			if err == nil && (strings.HasSuffix(name, "CARD") || strings.Contains(name, "punch")) {
				t.Error("it was accepted, so that its caller believes that space was given back")
			}
		})
	}
}

func TestZeroesAreWrittenWhereDiscardIsOff(t *testing.T) {
	m, f := manager(t), allocated(t, t.TempDir(), 8*mib)
	if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 8*mib), 0); err != nil {
		t.Fatal(err)
	}
	d := attach(t, m, f, loop.Options{DirectIO: true})
	fd, closeIt := open(t, d.Path, unix.O_RDWR)
	if err := rangeIoctl(fd, unix.BLKZEROOUT, mib, 2*mib); err != nil {
		t.Fatal(err)
	}
	closeIt()
	got := make([]byte, 8*mib)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Count(got, []byte{0}) != 2*mib || got[mib-1] != 'x' || got[mib] != 0 || got[3*mib-1] != 0 || got[3*mib] != 'x' {
		t.Errorf("%d bytes are zero, want %d in the right place", bytes.Count(got, []byte{0}), 2*mib)
	}
}

func TestDiscardGivesSpaceBackWhereItIsOn(t *testing.T) {
	m, f := manager(t), allocated(t, t.TempDir(), 32*mib)
	d := attach(t, m, f, loop.Options{Discard: true})
	fd, closeIt := open(t, d.Path, unix.O_RDWR)
	defer closeIt()
	if err := rangeIoctl(fd, unix.BLKDISCARD, 0, 16*mib); err != nil {
		t.Fatal(err)
	}
	if got := stat(t, f).Blocks; got > 16*mib/512+64 {
		t.Errorf("%d blocks are left", got)
	}
}

// TestFileSystemsOnAThickImage shows what a volume's life does to the image's allocation.
func TestFileSystemsOnAThickImage(t *testing.T) {
	for fsType, mkfs := range map[string][]string{
		"ext4, lazy":                           {"mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1"},
		"ext4, eager":                          {"mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"},
		"ext4, with discard, which is refused": {"mkfs.ext4", "-q", "-E", "discard"},
		"xfs":                                  {"mkfs.xfs", "-q", "-K"},
		"btrfs":                                {"mkfs.btrfs", "-q", "-K"},
	} {
		t.Run(fsType, func(t *testing.T) {
			m, f := manager(t), allocated(t, t.TempDir(), 320*mib)
			before := stat(t, f).Blocks
			check := func(when string) {
				t.Helper()
				unix.Sync()
				if after := stat(t, f).Blocks; after < before {
					t.Errorf("%s: %d of %d blocks are left", when, after, before)
				}
			}
			d := attach(t, m, f, loop.Options{DirectIO: true})
			run(t, mkfs[0], append(mkfs[1:], d.Path)...)
			check("after mkfs")
			dir, kind := t.TempDir(), strings.Trim(strings.TrimPrefix(strings.Fields(fsType)[0], "mkfs."), ",")
			if err := unix.Mount(d.Path, dir, kind, 0, "discard"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			for i := range 8 { // sparse files, filled in the middle: ext4 zeroes around such writes
				name := filepath.Join(dir, string(rune('a'+i)))
				w, err := os.Create(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Fallocate(int(w.Fd()), 0, 0, 8*mib); err != nil {
					t.Fatal(err)
				}
				for off := int64(4096); off < 8*mib; off += 65536 {
					if _, err := w.WriteAt([]byte("x"), off); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(w.Sync(), w.Close()); err != nil {
					t.Fatal(err)
				}
			}
			check("after writing")
			for i := range 8 {
				if err := os.Remove(filepath.Join(dir, string(rune('a'+i)))); err != nil {
					t.Fatal(err)
				}
			}
			check("after deleting, mounted with discard")
			if err := trim(dir); !errors.Is(err, unix.EOPNOTSUPP) {
				t.Errorf("fstrim: %v, want to be told that it can't be", err)
			}
			check("after fstrim")
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			check("at the end")
		})
	}
}

// trim does what fstrim(8) does (FITRIM).
func trim(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	r := [3]uint64{0, ^uint64(0), 0}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0xc0185879, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

// limits returns all of a device's settings that an earlier use could have left behind.
func limits(t *testing.T, d loop.Device) map[string]string {
	t.Helper()
	got := map[string]string{"getro": run(t, "blockdev", "--getro", d.Path)}
	for _, name := range []string{"discard_max_bytes", "discard_granularity", "write_zeroes_max_bytes", "logical_block_size", "max_sectors_kb"} {
		got[name] = queue(t, d, name)
	}
	return got
}

func TestADeviceKeepsNothingOfItsFormerLife(t *testing.T) {
	m, dir := manager(t), t.TempDir()
	pristine := limits(t, attach(t, m, image(t, dir, mib), loop.Options{Discard: true}))
	if pristine["discard_max_bytes"] == "0" || pristine["discard_granularity"] == "0" {
		t.Fatalf("a new device can't discard: %v", pristine)
	}
	f := image(t, dir, mib)
	path := run(t, "losetup", "--find", "--show", f.Name())
	d, _, err := m.Find(f, false)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func() {
		if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(d.Path), "queue/discard_max_bytes"), []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		run(t, "blockdev", "--setro", d.Path)
		run(t, "losetup", "-d", d.Path)
		gone(t, f)
	}
	for _, discard := range []bool{true, false, true} {
		spoil()
		// The spoilt number may be anybody's by now; where it is ours it must be like new.
		d = attach(t, m, f, loop.Options{Discard: discard})
		got := limits(t, d)
		if discard && !mapsEqual(got, pristine) {
			t.Errorf("%s (%s was spoilt): got %v, want %v", d.Path, path, got, pristine)
		}
		if !discard && (got["discard_max_bytes"] != "0" || got["getro"] != "0") {
			t.Errorf("%s without discard: %v", d.Path, got)
		}
		path = d.Path
	}
}

func mapsEqual(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

// freeForAll returns the free devices that can pass discards on.
func freeForAll(t *testing.T) map[int]bool {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		t.Fatal(err)
	}
	free := map[int]bool{}
	for _, dir := range all {
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(b))
		}
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "loop"))
		if err != nil {
			t.Fatal(err)
		}
		limit, hardware := read("queue/discard_max_bytes"), read("queue/discard_max_hw_bytes")
		free[n] = read("loop/backing_file") == "" && (limit != "0" || hardware == "0")
	}
	return free
}

func TestNoDeviceThatOthersCouldUseLosesItsDiscard(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	before := freeForAll(t)
	d := attach(t, m, f, loop.Options{})
	if got := queue(t, d, "discard_max_bytes"); got != "0" {
		t.Fatalf("discard limit %s", got)
	}
	if before[d.Number] {
		t.Errorf("%s was free for all before", d.Path)
	}
}

func TestDevicesAreUsedAgainByBothKinds(t *testing.T) {
	m, used := manager(t), map[int]bool{}
	kinds := map[bool]*os.File{false: image(t, t.TempDir(), mib), true: image(t, t.TempDir(), mib)}
	for range 30 {
		for discard, f := range kinds {
			d := attach(t, m, f, loop.Options{Discard: discard})
			if got := queue(t, d, "discard_max_bytes"); (got != "0") != discard || d.Discard != discard {
				t.Errorf("%s has discard limit %s, want discard %v", d.Path, got, discard)
			}
			used[d.Number] = true
			if err := m.Detach(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			gone(t, f)
		}
	}
	if len(used) > 10 { // two, but others take free ones, too
		t.Errorf("%d devices were used for two images", len(used))
	}
}

func TestAnAttachedDeviceThatRefusedDiscardsTellsSo(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	d := attach(t, m, f, loop.Options{})
	again := attach(t, m, f, loop.Options{Discard: true})
	if again.Number != d.Number || d.Discard || again.Discard != (queue(t, again, "discard_max_bytes") != "0") {
		t.Errorf("attached again: %+v, was %+v", again, d)
	}
	if back := attach(t, m, f, loop.Options{}); back != d {
		t.Errorf("and back: %+v, was %+v", back, d)
	}
}

func TestACrashBeforeTheDiscardLimitIsMended(t *testing.T) {
	f := allocated(t, t.TempDir(), 8*mib)
	path := run(t, "losetup", "--find", "--show", f.Name()) // all that was done before the process died
	d := attach(t, manager(t), f, loop.Options{})
	if got := queue(t, d, "discard_max_bytes"); d.Path != path || got != "0" {
		t.Errorf("%s has discard limit %s, want %s with 0", d.Path, got, path)
	}
}

func TestACrashAtAnyPointIsMended(t *testing.T) {
	for _, discard := range []bool{false, true} {
		for k := 0; ; k++ {
			f, o := image(t, t.TempDir(), mib), loop.Options{Discard: discard}
			if !dies(t, f, o, k) {
				if k < 1 {
					t.Error("Attach tells no steps")
				}
				break
			}
			// The device that it died at may be one that refuses discards, which another program left free: then it says so.
			d := attach(t, manager(t), f, o)
			if got := queue(t, d, "discard_max_bytes"); (got != "0") != d.Discard || (d.Discard && !discard) || len(devices(t, f)) != 1 {
				t.Errorf("after a crash at step %d: discard limit %s, devices %v", k, got, devices(t, f))
			}
		}
	}
}

// dies attaches and detaches with a Manager that is stopped before its k-th change, if there is one.
func dies(t *testing.T, f *os.File, o loop.Options, k int) (died bool) {
	t.Helper()
	defer func() { died = recover() != nil }()
	m, n := manager(t), 0
	ctx := step.WithHook(t.Context(), func(string, string) {
		if n == k {
			panic("killed")
		}
		n++
	})
	if _, err := m.Attach(ctx, f, o); err != nil {
		t.Error(err)
	}
	if err := m.Detach(ctx, f); err != nil {
		t.Error(err)
	}
	return false
}
