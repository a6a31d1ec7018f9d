package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestXFSProjectQuotaBindsRoot(t *testing.T) {
	disk := blank(t, "/dev/ubda")
	run(t, "mkfs.xfs", "-q", "-K", disk)
	root := mount(t, disk, "xfs", "prjquota")
	folder := filepath.Join(root, "volume")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "xfs_quota", "-x", "-c", "project -s -p "+folder+" 7", root)
	run(t, "xfs_quota", "-x", "-c", "limit -p bhard=4m 7", root)
	if err := os.WriteFile(filepath.Join(folder, "fits"), make([]byte, 2<<20), 0o644); err != nil {
		t.Errorf("write 2 MiB below a limit of 4 MiB: %v", err)
	}
	err := os.WriteFile(filepath.Join(folder, "does not fit"), make([]byte, 4<<20), 0o644)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		t.Errorf("write 4 MiB more: %v, want no space", err)
	}
}

func TestFileSystemsMountAndKeepAFile(t *testing.T) {
	for name, test := range map[string]struct {
		mkfs            []string
		fstype, options string
	}{
		"ext4 with project quota": {[]string{"mkfs.ext4", "-q", "-O", "quota,project", "-E", "nodiscard,quotatype=prjquota"}, "ext4", "prjquota"},
		"xfs":                     {[]string{"mkfs.xfs", "-q", "-K"}, "xfs", ""},
		"btrfs":                   {[]string{"mkfs.btrfs", "-q", "-K"}, "btrfs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			disk := blank(t, "/dev/ubdb")
			run(t, test.mkfs[0], append(test.mkfs[1:], disk)...)
			write(t, filepath.Join(mount(t, disk, test.fstype, test.options), "file"), "content")
		})
	}
}

func TestReflinkSharesBlocks(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			disk := blank(t, "/dev/ubdb")
			run(t, "mkfs."+fstype, "-q", "-K", disk)
			file := filepath.Join(mount(t, disk, fstype, ""), "file")
			write(t, file, "content")
			run(t, "cp", "--reflink=always", file, file+".clone")
			if got := read(t, file+".clone"); got != "content" {
				t.Errorf("clone holds %q", got)
			}
		})
	}
}

func TestLoopDeviceIsConfiguredInOneCall(t *testing.T) {
	disk := blank(t, "/dev/ubda")
	run(t, "mkfs.ext4", "-q", "-E", "nodiscard", disk)
	image, err := os.Create(filepath.Join(mount(t, disk, "ext4", ""), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := image.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("the node of the new loop device: %v", err)
	}
	defer device.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: 4096}
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		t.Fatalf("LOOP_CONFIGURE: %v", err)
	}
	defer func() {
		if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Error(err)
		}
	}()
	if got := read(t, fmt.Sprintf("/sys/block/loop%d/loop/dio", number)); got != "1" {
		t.Errorf("direct I/O of the loop device: %s, want 1", got)
	}
	if got := run(t, "blockdev", "--getss", "--getsize64", device.Name()); got != "4096\n67108864\n" {
		t.Errorf("sector and whole size: %q", got)
	}
}
