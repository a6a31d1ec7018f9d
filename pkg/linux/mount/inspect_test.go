package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

func TestInspectSaysWhatAPathIs(t *testing.T) {
	tmp := t.TempDir()
	d, f := dir(t, tmp, "d"), file(t, "x", tmp, "f")
	link, fifo := filepath.Join(tmp, "link"), filepath.Join(tmp, "fifo")
	if err := os.Symlink(d, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o751|fs.ModeSticky|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want mount.Point
	}{
		"nothing":                   {filepath.Join(tmp, "no"), mount.Point{}},
		"nothing below a file":      {filepath.Join(f, "no"), mount.Point{}},
		"nothing below a directory": {filepath.Join(tmp, "no/no"), mount.Point{}},
		"a directory":               {d, mount.Point{Exists: true, IsDir: true, Mode: fs.ModeDir | fs.ModeSticky | fs.ModeSetgid | 0o751}},
		"a file":                    {f, mount.Point{Exists: true, Mode: 0o644}},
		"a symbolic link":           {link, mount.Point{Exists: true, Mode: fs.ModeSymlink | 0o777}},
		"a fifo":                    {fifo, mount.Point{Exists: true, Mode: fs.ModeNamedPipe | 0o600}},
		"a character device":        {"/dev/null", mount.Point{Exists: true, Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Rdev: unix.Mkdev(1, 3)}},
		"a mount":                   {tmpfs(t, tmp, "mounted"), mount.Point{Exists: true, IsDir: true, IsMount: true, Mode: fs.ModeDir | fs.ModeSticky | 0o777}},
	} {
		t.Run(name, func(t *testing.T) {
			got := inspect(t, c.path)
			if got.Exists {
				var st unix.Stat_t
				if err := unix.Lstat(c.path, &st); err != nil {
					t.Fatal(err)
				}
				if got.Dev != st.Dev || got.Ino != st.Ino || got.MountID == 0 {
					t.Errorf("%+v is another object than %d/%d", got, st.Dev, st.Ino)
				}
			}
			got.Dev, got.Ino, got.MountID = 0, 0, 0
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestInspectFollowsLinksAboveThePathOnly(t *testing.T) {
	tmp := t.TempDir()
	d := dir(t, tmp, "real", "d")
	if err := os.Symlink(filepath.Join(tmp, "real"), filepath.Join(tmp, "link")); err != nil {
		t.Fatal(err)
	}
	if a, b := inspect(t, d), inspect(t, filepath.Join(tmp, "link", "d")); a != b {
		t.Errorf("%+v, %+v", a, b)
	}
}

func TestInspectRefusesUnsoundPaths(t *testing.T) {
	_, err := mount.New(mount.Config{}).Inspect(t.Context(), "../etc")
	wantFault(t, err, fault.Invalid, "../etc")
}

// shutDown makes an xfs stop in its tracks, as after an I/O error on its log (XFS_IOC_GOINGDOWN).
func shutDown(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	noLogFlush := uint32(2)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x8004587d, uintptr(unsafe.Pointer(&noLogFlush))); errno != 0 {
		t.Fatal(errno)
	}
}

func TestACorruptedMountIsRecognisedAndCanBeTakenOff(t *testing.T) {
	m, dev, real := mount.New(mount.Config{}), disk(t, "xfs", 320), dir(t, t.TempDir(), "real")
	target := dir(t, real, "stage")
	if err := m.Mount(t.Context(), dev, target, "xfs", nil); err != nil {
		t.Fatal(err)
	}
	id := inspect(t, target).MountID
	shutDown(t, target)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{target, filepath.Join(link, "stage")} {
		want := mount.Point{Exists: true, IsMount: true, Corrupted: true, MountID: id}
		if p := inspect(t, path); p != want {
			t.Errorf("%s: got %+v, want %+v", path, p, want)
		}
	}
	if _, err := m.MakeDirTarget(t.Context(), target, 0o750); !fault.Is(err, fault.Precondition) {
		t.Errorf("MakeDirTarget: %v", err)
	}
	if err := m.RemoveTarget(t.Context(), target); !fault.Is(err, fault.Precondition) || !errors.Is(err, unix.EIO) {
		t.Errorf("RemoveTarget: %v", err)
	}
	if err := m.Unmount(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if p := inspect(t, target); p.IsMount || p.Corrupted || !p.IsDir {
		t.Errorf("after Unmount %+v", p)
	}
}

func BenchmarkInspect(b *testing.B) {
	m := mount.New(mount.Config{})
	for b.Loop() {
		if _, err := m.Inspect(b.Context(), "/dev/shm"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBindAndUnmount(b *testing.B) {
	m, d := mount.New(mount.Config{}), b.TempDir()
	for _, name := range []string{"source", "target"} {
		if err := os.Mkdir(filepath.Join(d, name), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := m.Bind(b.Context(), filepath.Join(d, "source"), filepath.Join(d, "target"), mount.BindOptions{ReadOnly: true}); err != nil {
			b.Fatal(err)
		}
		if err := m.Unmount(b.Context(), filepath.Join(d, "target")); err != nil {
			b.Fatal(err)
		}
	}
}
