package loop_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestDetachOfADeviceInUseIsSuccessAndCanBeTakenBack(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	d := attach(t, m, f, loop.Options{})
	_, closeIt := open(t, d.Path, unix.O_RDONLY)
	if err := m.Detach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if info := status(t, d.Path); info == nil || info.Flags&unix.LO_FLAGS_AUTOCLEAR == 0 {
		t.Fatalf("want the device to wait for its last user: %+v", info)
	}
	for _, again := range []*loop.Manager{m, manager(t)} { // the same process, and one that has just started
		if got := attach(t, again, f, loop.Options{}); got != d {
			t.Errorf("attached again: %+v, want %+v", got, d)
		}
	}
	closeIt()
	if info := status(t, d.Path); info == nil || info.Flags&unix.LO_FLAGS_AUTOCLEAR != 0 {
		t.Errorf("the detachment wasn't taken back: %+v", info)
	}
}

func TestADetachedDeviceInUseGoesWithItsLastUser(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), 32*mib)
	d := attach(t, m, f, loop.Options{})
	run(t, "mkfs.ext4", "-q", d.Path)
	dir := t.TempDir()
	if err := unix.Mount(d.Path, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for range 2 {
		if err := m.Detach(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, mib), 0o600); err != nil {
		t.Errorf("the mount was disturbed: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	gone(t, f)
	if _, found, err := m.Find(f, false); found || err != nil {
		t.Errorf("Find: %v, %v", found, err)
	}
}

func TestADeviceThatSomebodyElseAttached(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	path := run(t, "losetup", "--find", "--show", f.Name()) // after New looked at the machine
	d, found, err := m.Find(f, false)
	if err != nil || !found || d.Path != path {
		t.Fatalf("Find: %+v, %v, %v, want %s", d, found, err, path)
	}
	if err := manager(t).Detach(t.Context(), f); err != nil {
		t.Errorf("Detach: %v", err)
	}
	gone(t, f)
	if _, found, err := m.Find(f, false); found || err != nil {
		t.Errorf("Find after Detach: %v, %v", found, err)
	}
	m = manager(t)
	run(t, "losetup", "--find", "--show", "-r", f.Name())
	if err := m.Detach(t.Context(), f); err != nil {
		t.Errorf("Detach of what the index doesn't know: %v", err)
	}
	gone(t, f)
}

func TestADeviceThatShowsAPartOfTheImageIsNotTheImage(t *testing.T) {
	f := image(t, t.TempDir(), mib)
	path := run(t, "losetup", "--find", "--show", "--offset", "4096", f.Name())
	defer func() {
		fd, closeIt := open(t, path, unix.O_RDONLY)
		if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil {
			t.Error(err)
		}
		closeIt()
	}()
	m := manager(t)
	if _, found, err := m.Find(f, false); found || err != nil {
		t.Errorf("Find: %v, %v", found, err)
	}
	if d := attach(t, m, f, loop.Options{}); d.Path == path || d.Bytes != mib {
		t.Errorf("Attach gave %+v", d)
	}
	if err := m.Detach(t.Context(), f); err != nil || !backs(t, path, f) {
		t.Errorf("Detach took a stranger's device: %v", err)
	}
}

func TestAStaleHintIsNotBelieved(t *testing.T) {
	m, dir := manager(t), t.TempDir()
	f := image(t, dir, mib)
	d := attach(t, m, f, loop.Options{})
	run(t, "losetup", "-d", d.Path)
	gone(t, f)
	other := image(t, dir, mib)
	run(t, "losetup", d.Path, other.Name()) // the number means another image now
	if err := m.Detach(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if !backs(t, d.Path, other) {
		t.Fatal("Detach took another image off its device")
	}
	if got := attach(t, m, f, loop.Options{}); got.Number == d.Number || !backs(t, got.Path, f) {
		t.Errorf("Attach gave %+v", got)
	}
	_, err := m.Refresh(t.Context(), d)
	wantFault(t, err, fault.Precondition, d.Path)
}

func TestAnUnlinkedImageIsKnownWhileItIsAttached(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	d := attach(t, m, f, loop.Options{})
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if got := attach(t, m, f, loop.Options{}); got != d {
		t.Errorf("got %+v, want %+v", got, d)
	}
	if err := m.Detach(t.Context(), f); err != nil {
		t.Errorf("Detach: %v", err)
	}
	gone(t, f)
	if d = attach(t, m, f, loop.Options{}); !backs(t, d.Path, f) {
		t.Error("an unlinked image can't be attached")
	}
}

func TestAMissingNodeIsMade(t *testing.T) {
	dev, f := t.TempDir(), image(t, t.TempDir(), mib)
	m, err := loop.New(loop.Config{Dev: dev})
	if err != nil {
		t.Fatal(err)
	}
	var steps int
	d, err := m.Attach(step.WithHook(t.Context(), func(string, string) { steps++ }), f, loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(d.Path, &st); err != nil || st.Mode != unix.S_IFBLK|0o600 || st.Rdev != unix.Mkdev(7, d.Minor) || filepath.Dir(d.Path) != dev {
		t.Errorf("%s: mode %#o, device %d, %v", d.Path, st.Mode, st.Rdev, err)
	}
	if steps < 2 { // the node and the attachment at least
		t.Errorf("%d steps", steps)
	}
	// A node that leads elsewhere is neither used nor replaced.
	if err := os.Remove(d.Path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(d.Path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, d.Minor+1))); err != nil {
		t.Fatal(err)
	}
	_, err = m.Attach(t.Context(), f, loop.Options{})
	wantFault(t, err, fault.Precondition, d.Path, "remove the wrong node")
	wantFault(t, m.Detach(t.Context(), f), fault.Precondition, d.Path)
}

func TestAMachineWithoutLoopDevices(t *testing.T) {
	if _, err := loop.New(loop.Config{SysBlock: filepath.Join(t.TempDir(), "no")}); err == nil {
		t.Error("a missing sysfs was taken for a machine without devices")
	}
	f := image(t, t.TempDir(), mib)
	m, err := loop.New(loop.Config{Dev: filepath.Join(t.TempDir(), "no"), SysBlock: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, discard := range []bool{false, true} {
		_, err = m.Attach(t.Context(), f, loop.Options{Discard: discard})
		wantFault(t, err, fault.Unavailable, "no loop devices", "modprobe loop")
	}
	if _, found, err := m.Find(f, false); found || err != nil {
		t.Errorf("Find: %v, %v", found, err)
	}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	for i := range 20 {
		d := attach(t, m, f, loop.Options{ReadOnly: i%2 == 0, Discard: i%3 == 0})
		if _, err := m.Refresh(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Attach(t.Context(), f, loop.Options{SectorSize: i}); i > 0 && i < 512 && err == nil {
			t.Error("no error for sector size " + strconv.Itoa(i))
		}
		if err := m.Detach(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
