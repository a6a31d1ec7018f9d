package blockdev_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

// attach makes a loop device of a new sparse file.
func attach(t *testing.T, size int64, options ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "losetup", append([]string{"-f", "--show", image}, options...)...).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	if !slices.Contains(options, "-r") {
		// The protection that somebody gave to this number outlives his device.
		if out, err := exec.CommandContext(t.Context(), "blockdev", "--setrw", device).CombinedOutput(); err != nil {
			t.Fatalf("blockdev: %v: %s", err, out)
		}
	}
	return device
}

// discard is what sysfs says of a disk by its name. A loop device that was once made to refuse discards
// may say 0 for ever.
func discard(t *testing.T, device string) int64 {
	t.Helper()
	text, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/queue/discard_max_bytes")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFactsOfALoopDevice(t *testing.T) {
	const size = 64<<20 + 4096
	for name, c := range map[string]struct {
		options  []string
		readOnly bool
		sector   int
	}{
		"as it is":              {nil, false, 512},
		"with sectors of 4096":  {[]string{"--sector-size", "4096"}, false, 4096},
		"protected from writes": {[]string{"-r"}, true, 512},
	} {
		t.Run(name, func(t *testing.T) {
			device := attach(t, size, c.options...)
			if got, err := blockdev.Size(device); err != nil || got != size {
				t.Errorf("size %d, %v", got, err)
			}
			if got, err := blockdev.ReadOnly(device); err != nil || got != c.readOnly {
				t.Errorf("read-only %v, %v", got, err)
			}
			if got, err := blockdev.LogicalSectorSize(device); err != nil || got != c.sector {
				t.Errorf("sectors of %d, %v", got, err)
			}
			major, minor, err := blockdev.Number(device)
			if err != nil || major != 7 {
				t.Errorf("number %d:%d, %v", major, minor, err)
			}
			if n, err := blockdev.DiscardMaxBytes(device); err != nil || n != discard(t, device) {
				t.Errorf("discards %d bytes, %v, want %d", n, err, discard(t, device))
			}
			// Another node for the same number is the same device.
			node := filepath.Join(t.TempDir(), "node")
			if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
				t.Fatal(err)
			}
			if got, err := blockdev.Size(node); err != nil || got != size {
				t.Errorf("by another name: size %d, %v", got, err)
			}
			if _, err := blockdev.DiscardMaxBytes(node); err != nil {
				t.Errorf("by another name: %v", err)
			}
		})
	}
}

func TestAPartitionAnswersForItsDisk(t *testing.T) {
	device := attach(t, 64<<20)
	for _, c := range [][]string{{"sh", "-c", `printf 'label:gpt\nsize=20M\n' | sfdisk -q "$0"`, device}, {"partx", "-a", device}} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("partx", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	text, err := os.ReadFile("/sys/class/block/" + filepath.Base(device) + "p1/dev")
	if err != nil {
		t.Fatal(err)
	}
	major, minor, ok := strings.Cut(strings.TrimSpace(string(text)), ":")
	if !ok {
		t.Fatalf("number %q", text)
	}
	node := filepath.Join(t.TempDir(), "p1")
	if out, err := exec.CommandContext(t.Context(), "mknod", node, "b", major, minor).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := blockdev.Size(node); err != nil || got != 20<<20 {
		t.Errorf("size %d, %v", got, err)
	}
	if got, err := blockdev.DiscardMaxBytes(node); err != nil || got != discard(t, device) {
		t.Errorf("discards %d bytes, %v, want %d", got, err, discard(t, device))
	}
}

func TestWhatIsNoDeviceIsNamed(t *testing.T) {
	dir := t.TempDir()
	plain, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ghost := filepath.Join(dir, "ghost")
	if err := unix.Mknod(ghost, unix.S_IFBLK|0o600, int(unix.Mkdev(4000, 7))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fault.Kind{
		plain: fault.Precondition, pipe: fault.Precondition, dir: fault.Precondition, "/dev/null": fault.Precondition,
		filepath.Join(dir, "none"): fault.NotFound,
		ghost:                      fault.Unavailable,
	} {
		for name, ask := range map[string]func() error{
			"Size":              func() error { _, err := blockdev.Size(path); return err },
			"ReadOnly":          func() error { _, err := blockdev.ReadOnly(path); return err },
			"LogicalSectorSize": func() error { _, err := blockdev.LogicalSectorSize(path); return err },
			"Number":            func() error { _, _, err := blockdev.Number(path); return err },
			"DiscardMaxBytes":   func() error { _, err := blockdev.DiscardMaxBytes(path); return err },
		} {
			err := ask()
			if path == ghost && name == "Number" {
				if err != nil { // the node alone tells it
					t.Error(err)
				}
				continue
			}
			kind := want
			if path == ghost && name == "DiscardMaxBytes" {
				kind = fault.NotFound // sysfs has no such device
			}
			if !fault.Is(err, kind) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %s: %v, %v", name, path, fault.KindOf(err), err)
			}
		}
	}
}

func TestADeviceOfNoBytesIsNotThereYet(t *testing.T) {
	device := attach(t, 0)
	if n, err := blockdev.Size(device); n != 0 || !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestTheFileUnderALoopDeviceIsKnown(t *testing.T) {
	device := attach(t, 1<<20)
	file, gone, err := blockdev.Backing(device)
	if filepath.Base(file) != "disk.img" || gone || err != nil {
		t.Fatalf("%q, %t, %v", file, gone, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if now, gone, err := blockdev.Backing(device); now != file || !gone || err != nil {
		t.Errorf("after its removal: %q, %t, %v", now, gone, err)
	}
	if _, _, err := blockdev.Backing("/dev/null"); err == nil {
		t.Error("a character device has a backing file")
	}
}
