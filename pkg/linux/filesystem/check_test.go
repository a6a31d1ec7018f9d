package filesystem_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// made returns an image with a file system.
func made(t *testing.T, fs filesystem.Type, size int64) string {
	t.Helper()
	image := sparse(t, size)
	if err := filesystem.Make(t.Context(), runner(), image, format(fs)); err != nil {
		t.Fatal(err)
	}
	return image
}

// crashed returns a copy of a file system that was taken while it was mounted and written to, as after a
// loss of power. Its file "kept" was synced.
func crashed(t *testing.T, fs filesystem.Type) string {
	t.Helper()
	image, after := made(t, fs, 512*mib), filepath.Join(t.TempDir(), "crashed.img")
	t.Run("crash", func(t *testing.T) { // at whose end the original is gone
		dir := mounted(t, attach(t, image))
		for _, name := range []string{"kept", "other"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(strings.Repeat(name, 100_000)), 0o600); err != nil {
				t.Fatal(err)
			}
			do(t, "sync", path)
		}
		do(t, "cp", "--sparse=always", image, after)
	})
	if fs == filesystem.Btrfs {
		do(t, "btrfs", "device", "scan", "--forget") // else the kernel would miss the newer original
	}
	return after
}

func TestAfterACrashTheDataIsThere(t *testing.T) {
	for _, fs := range all {
		t.Run(string(fs), func(t *testing.T) {
			var points []string
			ctx := step.WithHook(t.Context(), func(_, what string) { points = append(points, what) })
			device := attach(t, crashed(t, fs))
			for range 2 {
				if err := filesystem.Check(ctx, runner(), device, fs); err != nil {
					t.Fatal(err)
				}
			}
			var want []string
			if fs == filesystem.Ext4 { // once only: then it's clean
				want = []string{"check and repair ext4 on " + device}
			}
			if !slices.Equal(points, want) {
				t.Errorf("points %q, want %q", points, want)
			}
			got, err := os.ReadFile(filepath.Join(mounted(t, device), "kept"))
			if err != nil || string(got) != strings.Repeat("kept", 100_000) {
				t.Errorf("%d bytes are there, %v", len(got), err)
			}
		})
	}
}

func TestCheckRunsNothingOnACleanFileSystem(t *testing.T) {
	none := fakeTool(t, "none", "")
	for _, fs := range all {
		device := attach(t, made(t, fs, 512*mib))
		if err := filesystem.Check(t.Context(), none, device, fs); err != nil {
			t.Errorf("%s when new: %v", fs, err)
		}
		dir := mounted(t, device)
		do(t, "touch", filepath.Join(dir, "file"))
		do(t, "umount", dir)
		err := filesystem.Check(t.Context(), none, device, fs)
		do(t, "mount", device, dir)
		if err != nil {
			t.Errorf("%s when unmounted: %v", fs, err)
		}
	}
}

func TestADamagedExt4IsNamedAndLeftAlone(t *testing.T) {
	image := made(t, filesystem.Ext4, 64*mib)
	// The root directory's inode is gone: nothing that is repaired unasked. The kernel has noticed.
	do(t, "debugfs", "-w", "-R", "clri <2>", image)
	do(t, "debugfs", "-w", "-R", "set_super_value state 2", image)
	device := attach(t, image)
	err := filesystem.Check(t.Context(), runner(), device, filesystem.Ext4)
	if !fault.Is(err, fault.Precondition) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"check ext4 on " + device, "run `e2fsck -f " + device + "`", "UNEXPECTED INCONSISTENCY"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	do(t, "sh", "-c", `e2fsck -fy "$0" >/dev/null; [ $? -le 1 ]`, device) // and the command does it
	if err := filesystem.Check(t.Context(), runner(), device, filesystem.Ext4); err != nil {
		t.Error(err)
	}
}

func TestCheckOfExt4(t *testing.T) {
	for name, c := range map[string]struct {
		super  string // what is set in the superblock
		script string // of the fake e2fsck
		kind   fault.Kind
		want   string // in the error; "" = no error
	}{
		"an error that the kernel noted":      {"state 3", "exit 0", 0, ""},
		"not unmounted":                       {"state 0", "exit 1", 0, ""},
		"orphans are left":                    {"last_orphan 12", "exit 4", fault.Precondition, "run `e2fsck -f"},
		"errors were counted":                 {"error_count 1", "echo WORDS; exit 5", fault.Precondition, "WORDS"},
		"the journal is needed":               {"feature_incompat 0x2c6", "exit 8", fault.Precondition, "can't be checked"},
		"mounted as the root":                 {"state 0", "exit 3", fault.Precondition, "can't be checked"},
		"e2fsck is killed":                    {"state 0", "kill -9 $$", fault.Internal, "killed"},
		"the superblock's checksum is wrong":  {"checksum", "exit 12", fault.Precondition, "can't be checked"},
		"clean, so that e2fsck is not needed": {"", "exit 4", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			image := made(t, filesystem.Ext4, 64*mib)
			switch c.super {
			case "":
			case "checksum":
				write(t, image, 1024+0x3FC, []byte{1, 2, 3, 4})
			default:
				do(t, "debugfs", "-w", "-R", "set_super_value "+c.super, image)
			}
			err := filesystem.Check(t.Context(), fakeTool(t, "e2fsck", c.script), image, filesystem.Ext4)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), image) {
				t.Errorf("got %v: %v", fault.KindOf(err), err)
			}
		})
	}
	image := made(t, filesystem.Ext4, 64*mib)
	do(t, "debugfs", "-w", "-R", "set_super_value state 0", image)
	err := filesystem.Check(t.Context(), command.New(command.Config{Path: "/nowhere"}), image, filesystem.Ext4)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "e2fsck is missing") {
		t.Errorf("got %v", err)
	}
}

func TestCheckRefusesAnotherFileSystem(t *testing.T) {
	image := made(t, filesystem.XFS, 512*mib)
	for fs, on := range map[filesystem.Type]string{filesystem.Ext4: image, filesystem.Btrfs: image, filesystem.XFS: sparse(t, 512*mib)} {
		if err := filesystem.Check(t.Context(), runner(), on, fs); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "it bears") {
			t.Errorf("%s: %v", fs, err)
		}
	}
	if err := filesystem.Check(t.Context(), runner(), "/nowhere", filesystem.XFS); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}
