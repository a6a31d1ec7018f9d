package guest

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestThinSnapshotKeepsWhatItsVolumeHeld(t *testing.T) {
	run(t, "vgcreate", "--yes", "vg", blank(t, "/dev/ubda"))
	t.Cleanup(func() { run(t, "vgremove", "--force", "--yes", "vg") })
	run(t, "lvcreate", "--type", "thin-pool", "--size", "512M", "--name", "pool", "vg")
	run(t, "lvcreate", "--thin", "--virtualsize", "8G", "--name", "volume", "vg/pool")

	before := bytes.Repeat([]byte("before "), 1<<20)
	after := bytes.Repeat([]byte("after, "), 1<<20)
	writeDevice(t, "/dev/vg/volume", before)
	run(t, "lvcreate", "--snapshot", "--setactivationskip", "n", "--name", "photo", "vg/volume")
	writeDevice(t, "/dev/vg/volume", after)

	if !bytes.Equal(readDevice(t, "/dev/vg/photo", len(before)), before) {
		t.Error("the snapshot changed with its volume")
	}
	if !bytes.Equal(readDevice(t, "/dev/vg/volume", len(after)), after) {
		t.Error("the volume doesn't hold what was written last")
	}
}

func TestDeviceMapperHasTheTargetsThatStorageTestsNeed(t *testing.T) {
	modules := map[string]string{
		"dm-thin-pool": "thin-pool", "dm-snapshot": "snapshot", "dm-raid": "raid", "dm-crypt": "crypt",
		"dm-flakey": "flakey", "dm-log-writes": "log-writes", "dm-delay": "delay", "dm-dust": "dust", "dm-multipath": "multipath",
	}
	for module, target := range modules {
		t.Run(target, func(t *testing.T) {
			run(t, "modprobe", module)
			for line := range strings.Lines(run(t, "dmsetup", "targets")) {
				if strings.Fields(line)[0] == target {
					return
				}
			}
			t.Errorf("no target %s after loading %s", target, module)
		})
	}
}

func TestFlakeyDeviceFailsReadsWhenItIsDown(t *testing.T) {
	disk := blank(t, "/dev/ubda")
	sectors := strings.TrimSpace(run(t, "blockdev", "--getsz", disk))
	run(t, "dmsetup", "create", "flaky", "--table", "0 "+sectors+" flakey "+disk+" 0 0 3600")
	t.Cleanup(func() { run(t, "dmsetup", "remove", "flaky") })
	device, err := os.Open("/dev/mapper/flaky")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if n, err := device.Read(make([]byte, 4096)); err == nil {
		t.Errorf("read %d bytes from a device that is down", n)
	}
}

func writeDevice(t *testing.T, path string, content []byte) {
	t.Helper()
	device, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, err := device.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := device.Sync(); err != nil {
		t.Fatal(err)
	}
}

func readDevice(t *testing.T, path string, length int) []byte {
	t.Helper()
	device, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	content := make([]byte, length)
	if _, err := device.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return content
}
