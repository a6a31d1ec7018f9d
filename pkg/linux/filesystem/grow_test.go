package filesystem_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// extend grows an image and its device.
func extend(t *testing.T, image, device string, size int64) {
	t.Helper()
	resize(t, image, size)
	do(t, "losetup", "-c", device)
}

func TestGrowWhileMounted(t *testing.T) {
	for name, c := range map[string]struct {
		fs    filesystem.Type
		sizes []int64
	}{
		"ext4 by a little, and a lot": {filesystem.Ext4, []int64{64 * mib, 65 * mib, 8 * gib}},
		"ext4 from the least":         {filesystem.Ext4, []int64{16 * mib, 17 * mib, 64 * gib}},
		"ext4 of an odd size":         {filesystem.Ext4, []int64{64*mib + 12345*512, gib + 77*512}},
		"xfs":                         {filesystem.XFS, []int64{300 * mib, 301 * mib, 2 * gib}},
		"xfs of an odd size":          {filesystem.XFS, []int64{300*mib + 12345*512, gib + 77*512}},
		"btrfs":                       {filesystem.Btrfs, []int64{256 * mib, 257 * mib, 8 * gib}},
		"btrfs of an odd size":        {filesystem.Btrfs, []int64{256*mib + 12345*512, gib + 77*512}},
	} {
		t.Run(name, func(t *testing.T) {
			image := made(t, c.fs, c.sizes[0])
			device := attach(t, image)
			dir := mounted(t, device)
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, size := range c.sizes[1:] {
				growTo(t, c.fs, image, device, dir, size)
			}
			last := c.sizes[len(c.sizes)-1]
			if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
				t.Errorf("%q, %v", b, err)
			}
			// It is whole, and mounts again.
			do(t, "umount", dir)
			sig, err := filesystem.Probe(t.Context(), runner(), device)
			if err != nil || filesystem.NeedsGrow(sig, last) {
				t.Errorf("%d of %d bytes: %v", sig.Bytes, last, err)
			}
			switch c.fs {
			case filesystem.Ext4:
				do(t, "e2fsck", "-fn", device)
			case filesystem.XFS:
				do(t, "xfs_repair", "-n", device)
			case filesystem.Btrfs:
				do(t, "btrfs", "check", device)
			}
			do(t, "mount", device, dir)
		})
	}
}

// growTo grows to a size, and once more, which must change nothing.
func growTo(t *testing.T, fs filesystem.Type, image, device, dir string, size int64) {
	t.Helper()
	extend(t, image, device, size)
	before, err := filesystem.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := filesystem.Grow(t.Context(), dir, fs, size)
	if online, e := filesystem.GrowsMounted(fs); e != nil || !online {
		refusedOnline(t, fs, device, dir, err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if from != before.TotalBytes || to < from || to > size || to < size*9/10 && size > gib {
		t.Errorf("grown from %d (was %d) to %d of %d bytes", from, before.TotalBytes, to, size)
	}
	again, still, err := filesystem.Grow(t.Context(), dir, fs, size)
	if err != nil || again != to || still != to {
		t.Errorf("again: from %d to %d, %v", again, still, err)
	}
}

// refusedOnline is what happens where this process may not grow it mounted: that is said, and it grows
// when unmounted.
func refusedOnline(t *testing.T, fs filesystem.Type, device, dir string, err error) {
	t.Helper()
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
		t.Errorf("got %v", err)
	}
	do(t, "umount", dir)
	err = filesystem.GrowUnmounted(t.Context(), runner(), device, fs)
	do(t, "mount", device, dir)
	if err != nil {
		t.Error(err)
	}
}

func TestNeedsGrow(t *testing.T) {
	for _, c := range []struct {
		fs, device int64
		want       bool
	}{
		{gib, gib, false},
		{gib, gib + 4096, false},
		{gib, gib + 65535, false},
		{gib, gib + 65536, true},
		{gib, 2 * gib, true},
		{gib, gib - 1, false},
		{0, gib, false},
	} {
		if got := filesystem.NeedsGrow(filesystem.Signature{Type: "ext4", Bytes: c.fs}, c.device); got != c.want {
			t.Errorf("%d on %d: %v", c.fs, c.device, got)
		}
	}
}

func TestGrowIsOneStepWhereItChangesSomething(t *testing.T) {
	for _, fs := range all {
		t.Run(string(fs), func(t *testing.T) {
			var points []string
			ctx := step.WithHook(t.Context(), func(_, what string) { points = append(points, what) })
			image := made(t, fs, 300*mib)
			device := attach(t, image)
			dir := mounted(t, device)
			extend(t, image, device, 400*mib)
			online, err := filesystem.GrowsMounted(fs)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := filesystem.Grow(ctx, dir, fs, 400*mib); (err == nil) != online {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("grow %s at %s to %d bytes", fs, dir, 400*mib); len(points) != 1 || points[0] != want {
				t.Errorf("points %q", points)
			}
			if _, _, err := filesystem.Grow(ctx, dir, fs, 200*mib); err != nil || len(points) != 1 {
				t.Errorf("a smaller size: %v, points %q", err, points)
			}
		})
	}
}

func TestGrowRefuses(t *testing.T) {
	image := made(t, filesystem.XFS, 300*mib)
	device := attach(t, image)
	dir := mounted(t, device)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fs   filesystem.Type
		path string
		size int64
		kind fault.Kind
		want string
	}{
		"a folder that is not mounted on": {filesystem.XFS, filepath.Join(dir, "sub"), 300 * mib, fault.Precondition, "not the root of a mount"},
		"another file system":             {filesystem.Btrfs, dir, 300 * mib, fault.Precondition, "it is not btrfs"},
		"a device that wasn't grown":      {filesystem.XFS, dir, 301 * mib, fault.Precondition, "has 314572800 bytes, not 315621376"},
		"no such path":                    {filesystem.XFS, "/nowhere", gib, fault.Unavailable, "no such file"},
		"no such type":                    {"zfs", dir, gib, fault.Invalid, "no file system that grows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := filesystem.Grow(t.Context(), c.path, c.fs, c.size)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a read-only mount", func(t *testing.T) {
		for _, fs := range all {
			image := made(t, fs, 300*mib)
			device := attach(t, image)
			dir := mounted(t, device, "-o", "ro")
			extend(t, image, device, 400*mib)
			if _, _, err := filesystem.Grow(t.Context(), dir, fs, 400*mib); !fault.Is(err, fault.Precondition) {
				t.Errorf("%s: %v", fs, err)
			}
		}
	})
	t.Run("the file system of the host, where nothing is mounted", func(t *testing.T) {
		dir := t.TempDir()
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		fs := map[int64]filesystem.Type{unix.EXT4_SUPER_MAGIC: filesystem.Ext4, unix.XFS_SUPER_MAGIC: filesystem.XFS, unix.BTRFS_SUPER_MAGIC: filesystem.Btrfs}[st.Type]
		if fs == "" {
			fs = filesystem.Ext4
		}
		if _, _, err := filesystem.Grow(t.Context(), dir, fs, 1<<50); !fault.Is(err, fault.Precondition) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStat(t *testing.T) {
	for _, fs := range all {
		dir := mounted(t, attach(t, made(t, fs, 300*mib)))
		before, err := filesystem.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("x", 10<<20)), 0o600); err != nil {
			t.Fatal(err)
		}
		do(t, "sync", "-f", dir)
		after, err := filesystem.Stat(filepath.Join(dir, "file"))
		if err != nil || after.TotalBytes != before.TotalBytes || after.UsedBytes < before.UsedBytes+10*mib || after.AvailableBytes > before.AvailableBytes-10*mib {
			t.Errorf("%s: %+v, then %+v, %v", fs, before, after, err)
		}
		counted := after.TotalInodes > 0 && after.UsedInodes == before.UsedInodes+1 && after.FreeInodes+after.UsedInodes == after.TotalInodes
		if counted == (fs == filesystem.Btrfs) || fs == filesystem.Btrfs && after.TotalInodes != 0 {
			t.Errorf("%s: inodes %+v, then %+v", fs, before, after)
		}
	}
	if _, err := filesystem.Stat("/nowhere"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}
