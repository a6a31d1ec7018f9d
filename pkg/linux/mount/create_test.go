package mount_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// fileSystems are the types that volumes are formatted with, and a size in MiB that each can have.
func fileSystems() map[string]int64 { return map[string]int64{"ext4": 32, "xfs": 320, "btrfs": 128} }

func TestMountAndUnmountEachFileSystem(t *testing.T) {
	for fsType, mib := range fileSystems() {
		t.Run(fsType, func(t *testing.T) {
			m := mount.New(mount.Config{})
			own := map[string]string{"ext4": "commit=7", "xfs": "allocsize=64k", "btrfs": "commit=7"}[fsType]
			dev, target := disk(t, fsType, mib), dir(t, t.TempDir(), "stage")
			if err := m.Mount(t.Context(), dev, target, fsType, []string{"rw", "nosuid", "nodev", "noatime", own, "_netdev"}); err != nil {
				t.Fatal(err)
			}
			if p := inspect(t, target); !p.IsMount || !p.IsDir || p.ReadOnly {
				t.Errorf("got %+v, want a writable mount", p)
			}
			found := entries(t, target)
			if len(found) != 1 || found[0].Source != dev || found[0].FSType != fsType || found[0].Root != "/" {
				t.Fatalf("mount table: %+v", found)
			}
			for _, o := range []string{"nosuid", "nodev", "noatime"} {
				if !slices.Contains(found[0].Options, o) {
					t.Errorf("mount options %q lack %q", found[0].Options, o)
				}
			}
			if !slices.Contains(found[0].SuperOptions, own) {
				t.Errorf("file system options %q lack %q", found[0].SuperOptions, own)
			}
			file(t, "hello", target, "f")
			if err := m.Unmount(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			if p := inspect(t, target); p.IsMount {
				t.Error("still mounted")
			}
			if err := m.Mount(t.Context(), dev, target, fsType, []string{"ro"}); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(b) != "hello" {
				t.Errorf("read back %q, %v", b, err)
			}
			if p := inspect(t, target); !p.ReadOnly {
				t.Error("mounted ro, and it isn't read-only")
			}
			found = entries(t, target)
			if len(found) != 1 || !slices.Contains(found[0].Options, "ro") || !slices.Contains(found[0].SuperOptions, "ro") {
				t.Errorf("ro is to hold for mount and file system: %+v", found)
			}
		})
	}
}

func TestMountMakesTwoChanges(t *testing.T) {
	dev, target := disk(t, "ext4", 32), dir(t, t.TempDir(), "stage")
	var steps []string
	ctx := step.WithHook(t.Context(), func(_, what string) {
		steps = append(steps, what)
		if inspect(t, target).IsMount {
			t.Errorf("mounted before %q", what)
		}
	})
	m := mount.New(mount.Config{})
	if err := m.Mount(ctx, dev, target, "ext4", nil); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 {
		t.Errorf("steps %q", steps)
	}
	steps = nil
	if err := m.Mount(ctx, dev, target, "ext4", nil); !fault.Is(err, fault.Busy) || len(steps) != 0 {
		t.Errorf("a second mount on the same target: %v after %q", err, steps)
	}
}

func TestMountSaysWhatIsWrong(t *testing.T) {
	tmp := t.TempDir()
	target, regular, blank := dir(t, tmp, "stage"), file(t, "x", tmp, "regular"), disk(t, "", 32)
	link := filepath.Join(tmp, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	mounted := tmpfs(t, tmp, "mounted")
	ext4, xfs := disk(t, "ext4", 32), disk(t, "xfs", 320)
	for name, c := range map[string]struct {
		source, target, fsType string
		options                []string
		kind                   fault.Kind
		words                  []string
	}{
		"a type that the kernel lacks":         {ext4, target, "nosuchfs", nil, fault.Precondition, []string{"nosuchfs", "unknown to this kernel", ext4, target}},
		"an option that the type doesn't know": {xfs, target, "xfs", []string{"noatime", "frobnicate"}, fault.Invalid, []string{"frobnicate", "Unknown parameter", xfs}},
		"an option with a bad value":           {ext4, target, "ext4", []string{"commit=soon"}, fault.Invalid, []string{"commit=soon"}},
		"mount(8)'s own words":                 {ext4, target, "ext4", []string{"bind"}, fault.Invalid, []string{"bind"}},
		"two options in one word":              {ext4, target, "ext4", []string{"ro,exec"}, fault.Invalid, []string{"ro,exec"}},
		"another source by an option":          {ext4, target, "ext4", []string{"source=/dev/null"}, fault.Invalid, []string{"source=/dev/null"}},
		"another type's file system":           {ext4, target, "xfs", nil, fault.Precondition, []string{"no valid xfs", "invalid argument"}},
		"a blank device":                       {blank, target, "ext4", nil, fault.Precondition, []string{"no valid ext4"}},
		"a source that is not there":           {"/dev/nosuchdevice", target, "ext4", nil, fault.NotFound, []string{"/dev/nosuchdevice"}},
		"a source that is a file":              {regular, target, "ext4", nil, fault.Precondition, []string{"no block device"}},
		"no source":                            {"", target, "ext4", nil, fault.Invalid, nil},
		"a target that is not there":           {ext4, target + "/no", "ext4", nil, fault.NotFound, []string{target + "/no"}},
		"a target that is a file":              {ext4, regular, "ext4", nil, fault.Precondition, []string{"a directory is needed", regular}},
		"a target that is a symbolic link":     {ext4, link, "ext4", nil, fault.Precondition, []string{"symbolic link", link}},
		"a target that is mounted on":          {ext4, mounted, "ext4", nil, fault.Busy, []string{mounted}},
		"a relative target":                    {ext4, "stage", "ext4", nil, fault.Invalid, []string{"not absolute"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := mount.New(mount.Config{}).Mount(t.Context(), c.source, c.target, c.fsType, c.options)
			wantFault(t, err, c.kind, c.words...)
			t.Log(err)
			if inspect(t, target).IsMount {
				t.Error("something was mounted")
			}
		})
	}
}

func TestMountRefusesToWriteToAReadOnlyDevice(t *testing.T) {
	for fsType, mib := range fileSystems() {
		t.Run(fsType, func(t *testing.T) {
			m, dev, target := mount.New(mount.Config{}), disk(t, fsType, mib, "-r"), dir(t, t.TempDir(), "stage")
			err := m.Mount(t.Context(), dev, target, fsType, nil)
			t.Log(err)
			wantFault(t, err, fault.Precondition, "read-only", dev)
			if err := m.Mount(t.Context(), dev, target, fsType, []string{"ro"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMountOfADamagedFileSystem(t *testing.T) {
	// The offset and length of something whose checksum each type verifies when it mounts.
	for fsType, at := range map[string]int64{"ext4": 1024 + 0x68, "xfs": 32, "btrfs": 0x10000 + 0x30} {
		t.Run(fsType, func(t *testing.T) {
			dev, target := disk(t, fsType, fileSystems()[fsType]), dir(t, t.TempDir(), "stage")
			f, err := os.OpenFile(dev, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{0xde, 0xad, 0xbe, 0xef}, at); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			err = mount.New(mount.Config{}).Mount(t.Context(), dev, target, fsType, nil)
			t.Log(err)
			wantFault(t, err, fault.Precondition, dev, fsType)
		})
	}
}

func TestMountOfADeviceInUse(t *testing.T) {
	dev, target := disk(t, "ext4", 32), dir(t, t.TempDir(), "stage")
	fd, err := unix.Open(dev, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	wantFault(t, mount.New(mount.Config{}).Mount(t.Context(), dev, target, "ext4", nil), fault.Busy, dev, "in use")
}

func TestNothingIsDoneForACancelledCall(t *testing.T) {
	m, d := mount.New(mount.Config{}), dir(t, t.TempDir(), "d")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Inspect(ctx, d); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Inspect: %v", err)
	}
	if _, err := m.List(ctx); !fault.Is(err, fault.Unavailable) {
		t.Errorf("List: %v", err)
	}
	for name, err := range map[string]error{
		"Mount":        m.Mount(ctx, "/dev/null", d, "ext4", nil),
		"Bind":         m.Bind(ctx, d, d, mount.BindOptions{}),
		"Unmount":      m.Unmount(ctx, d),
		"RemoveTarget": m.RemoveTarget(ctx, d),
		"SetMode":      m.SetMode(ctx, d, 0),
	} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := inspect(t, d); !p.Exists || p.Mode.Perm() != 0o755 || p.IsMount {
		t.Errorf("changed: %+v", p)
	}
}
