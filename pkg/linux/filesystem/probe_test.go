package filesystem_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestProbeNamesForeignSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		prepare []string
		want    string
	}{
		"nothing":           {nil, ""},
		"swap":              {[]string{"mkswap", "-U", someUUID, "-L", "a b=c"}, "swap"},
		"a partition table": {[]string{"sh", "-c", `echo label:gpt | sfdisk -q "$0"`}, "gpt"},
		"FAT":               {[]string{"sh", "-c", `printf '\353\074\220mkfs.fat\000\002\004\001\000\002\000\002\000\050\370\004\000\040\000\002\000\000\000\000\000\000\000\000\000\200\000\051\001\002\003\004NO NAME    FAT12   ' | dd of="$0" conv=notrunc status=none; printf '\125\252' | dd of="$0" bs=1 seek=510 conv=notrunc status=none`}, "vfat"},
	} {
		t.Run(name, func(t *testing.T) {
			image := sparse(t, 16*mib)
			if c.prepare != nil {
				do(t, append(c.prepare, image)...)
			}
			sig, err := filesystem.Probe(t.Context(), runner(), image)
			if err != nil || sig.Type != c.want {
				t.Errorf("got %+v, %v", sig, err)
			}
			if c.want == "swap" && (sig.UUID != someUUID || sig.Label != "a b=c") {
				t.Errorf("got %+v", sig)
			}
		})
	}
}

func TestProbeOfAPartitionIsOfItsContent(t *testing.T) {
	image := sparse(t, 64*mib)
	do(t, "sh", "-c", `printf 'label:gpt\nsize=20M\nsize=20M\n' | sfdisk -q "$0"`, image)
	device := attach(t, image)
	do(t, "partx", "-a", device) // the kernel may know no partition table by itself
	t.Cleanup(func() {
		if out, err := exec.Command("partx", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if sig, err := filesystem.Probe(t.Context(), runner(), device); err != nil || sig.Type != "gpt" {
		t.Errorf("the disk: %+v, %v", sig, err)
	}
	one, two := partition(t, device, 1), partition(t, device, 2)
	write(t, one, mib, []byte("some data, for otherwise blkid is not asked"))
	if sig, err := filesystem.Probe(t.Context(), runner(), one); err != nil || sig != (filesystem.Signature{}) {
		t.Errorf("an empty partition: %+v, %v", sig, err)
	}
	do(t, "mkswap", two)
	if sig, err := filesystem.Probe(t.Context(), runner(), two); err != nil || sig.Type != "swap" {
		t.Errorf("a used partition: %+v, %v", sig, err)
	}
}

// partition makes a node for a partition of a device, as udev would.
func partition(t *testing.T, device string, number int) string {
	t.Helper()
	name := fmt.Sprintf("%sp%d", filepath.Base(device), number)
	text, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(t.TempDir(), name)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	return node
}

// Each of these once led some driver to format a volume that held data.
func TestProbeNeverTakesAFailureForNothing(t *testing.T) {
	image := sparse(t, 16*mib)
	write(t, image, 8*mib, []byte("data that blkid doesn't know"))
	for name, c := range map[string]struct {
		script string
		path   string
		kind   fault.Kind
		want   string
	}{
		"the device isn't there":           {"exit 2", "/dev/no-such-device", fault.Unavailable, "no such file"},
		"the device is a folder":           {"exit 2", filepath.Dir(image), fault.Precondition, "neither a block device nor a regular file"},
		"the path is relative":             {"exit 2", "disk.img", fault.Invalid, "not absolute"},
		"blkid is missing":                 {"", image, fault.Unavailable, "blkid is missing"},
		"blkid says nothing and succeeds":  {"exit 0", image, fault.Internal, "doesn't name its type"},
		"blkid says something that is new": {"echo NEW=1", image, fault.Internal, "doesn't name its type"},
		"blkid complains":                  {"echo 'read failed' >&2; exit 2", image, fault.Unavailable, "read failed"},
		"blkid fails in another way":       {"exit 4", image, fault.Unavailable, "exit status 4"},
		"blkid finds too much":             {"exit 8", image, fault.Precondition, "several signatures at once"},
		"blkid writes for people":          {"echo '/dev/x: TYPE=ext4'; echo hello", image, fault.Internal, "not KEY=value"},
		"blkid dies":                       {"kill -9 $$", image, fault.Internal, "killed"},
	} {
		t.Run(name, func(t *testing.T) {
			run := fakeTool(t, "blkid", c.script)
			if c.script == "" {
				run = fakeTool(t, "other", "")
			}
			sig, err := filesystem.Probe(t.Context(), run, c.path)
			if sig != (filesystem.Signature{}) || !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %+v, %v: %v", sig, fault.KindOf(err), err)
			}
		})
	}
	t.Run("blkid hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := filesystem.Probe(ctx, fakeTool(t, "blkid", "sleep 100"), image)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "blkid was killed after") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("blkid finds nothing", func(t *testing.T) {
		if sig, err := filesystem.Probe(t.Context(), fakeTool(t, "blkid", "exit 2"), image); err != nil || sig.Type != "" {
			t.Errorf("got %+v, %v", sig, err)
		}
	})
}

func TestAnEmptyFileIsNotBlank(t *testing.T) {
	image := sparse(t, 0)
	if sig, err := filesystem.Probe(t.Context(), runner(), image); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %+v, %v", sig, err)
	}
	if blank, err := filesystem.Blank(t.Context(), runner(), image); blank || !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, %v", blank, err)
	}
	device := attach(t, image)
	if blank, err := filesystem.Blank(t.Context(), runner(), device); blank || !fault.Is(err, fault.Unavailable) {
		t.Errorf("a device of no bytes: %v, %v", blank, err)
	}
}

func TestBlank(t *testing.T) {
	for name, c := range map[string]struct {
		size  int64
		at    int64 // of a byte that isn't zero; -1 = none
		blank bool
	}{
		"a hole":                         {gib, -1, true},
		"smaller than the edges":         {mib, -1, true},
		"a byte":                         {1, -1, true},
		"a byte that isn't zero":         {1, 0, false},
		"the first byte":                 {gib, 0, false},
		"the last byte":                  {gib, gib - 1, false},
		"the end of the first edge":      {gib, 2*mib - 1, false},
		"the beginning of the last edge": {gib, gib - 2*mib, false},
		"btrfs's second superblock":      {gib, 64*mib + 64, false},
		"ext4's second superblock":       {gib, 128*mib + 56, false},
		"the last of a size that is odd": {gib + 77, gib + 76, false},
		"the middle of a small one":      {3 * mib, 3 * mib / 2, false},
		"between the samples":            {gib, 50*mib + 5, true}, // Blank proves only what it reads
	} {
		t.Run(name, func(t *testing.T) {
			image := sparse(t, c.size)
			// A zero that was written is no hole: everything is read then.
			write(t, image, 0, []byte{0})
			if c.at >= 0 {
				write(t, image, c.at, []byte{1})
			}
			got, err := filesystem.Blank(t.Context(), runner(), image)
			if err != nil || got != c.blank {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("a file of holes isn't read", func(t *testing.T) {
		got, err := filesystem.Blank(t.Context(), runner(), sparse(t, 1<<40))
		if err != nil || !got {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("an allocated file", func(t *testing.T) {
		got, err := filesystem.Blank(t.Context(), runner(), thick(t, 64*mib))
		if err != nil || !got {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a device", func(t *testing.T) {
		image := sparse(t, 64*mib)
		device := attach(t, image)
		if got, err := filesystem.Blank(t.Context(), runner(), device); err != nil || !got {
			t.Errorf("got %v, %v", got, err)
		}
		write(t, device, 64*mib-1, []byte{1})
		if got, err := filesystem.Blank(t.Context(), runner(), device); err != nil || got {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a context that ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		image := sparse(t, gib)
		write(t, image, 0, []byte{0})
		if got, err := filesystem.Blank(ctx, runner(), image); got || !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// A loop device whose file has become shorter fails to read behind the file's end, and only there. (With
// buffered I/O kernels before 6.15 give zeroes instead.)
func TestReadsThatFailAreNoZeroes(t *testing.T) {
	image := sparse(t, 64*mib)
	device := attach(t, image, "--direct-io=on")
	resize(t, image, mib)
	run := fakeTool(t, "blkid", "exit 2")
	if got, err := filesystem.Blank(t.Context(), run, device); got || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), device) {
		t.Errorf("Blank: %v, %v", got, err)
	}
	if sig, err := filesystem.Probe(t.Context(), run, device); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Probe: %+v, %v", sig, err)
	}
	for _, fs := range all {
		image := sparse(t, 512*mib)
		device := attach(t, image, "--direct-io=on")
		resize(t, image, 256*mib)
		if err := filesystem.Make(t.Context(), runner(), device, format(fs)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Make %s: %v", fs, err)
		}
		if allocated(t, image) > 0 {
			t.Errorf("Make %s wrote to it", fs)
		}
	}
}
