package btrfs

import (
	"testing"
	"unsafe"
)

func TestTheKernelsStructuresHaveTheirSizes(t *testing.T) {
	for name, size := range map[string]uintptr{
		"btrfs_ioctl_vol_args":        unsafe.Sizeof(volumeArgs{}),
		"btrfs_ioctl_vol_args_v2":     unsafe.Sizeof(volumeArgs2{}),
		"btrfs_ioctl_ino_lookup_args": unsafe.Sizeof(inodeLookup{}),
		"btrfs_ioctl_search_args":     unsafe.Sizeof(treeSearch{}),
	} {
		if size != page {
			t.Errorf("struct %s has %d bytes", name, size)
		}
	}
	if size := unsafe.Sizeof(qgroupLimit{}); size != sizeOfLimit {
		t.Errorf("struct btrfs_ioctl_qgroup_limit_args has %d bytes", size)
	}
	if size := unsafe.Sizeof(filesystemInfo{}); size != sizeOfInfo {
		t.Errorf("struct btrfs_ioctl_fs_info_args has %d bytes", size)
	}
	if at := unsafe.Offsetof(treeSearch{}.found); at != searchKey {
		t.Errorf("what was found begins at %d", at)
	}
}

func FuzzParse(f *testing.F) {
	one := make([]byte, searchHeader+8)
	one[28] = 8
	f.Add(one, uint32(1))
	f.Add(one, uint32(2))
	f.Add([]byte{1, 2, 3}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, items uint32) {
		if found, err := parse(b, items); err == nil && uint32(len(found)) != items {
			t.Errorf("%d items, want %d", len(found), items)
		}
	})
}

func TestTheErrorsOfADeviceHaveTheirSize(t *testing.T) {
	if size := unsafe.Sizeof(deviceStats{}); size != sizeOfStats {
		t.Errorf("struct btrfs_ioctl_get_dev_stats has %d bytes", size)
	}
}
