package filesystem_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestErrorsOfExt4AreCounted(t *testing.T) {
	image := sparse(t, 64*mib)
	do(t, "mkfs.ext4", "-q", image)
	device := attach(t, image)
	if _, err := filesystem.ErrorCount(device); !fault.Is(err, fault.NotFound) {
		t.Errorf("not mounted: %v", err)
	}
	dir := mounted(t, device, "-o", "errors=continue")
	if n, err := filesystem.ErrorCount(device); n != 0 || err != nil {
		t.Errorf("%d errors, %v", n, err)
	}
	// As if the kernel had found one (Documentation/ABI/testing/sysfs-fs-ext4).
	if err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(device)+"/trigger_fs_error", []byte("a test"), 0); err != nil {
		t.Fatal(err)
	}
	// The kernel counts it a moment later (update_super_work in fs/ext4/super.c).
	limit, tick := time.After(time.Minute), time.Tick(10*time.Millisecond)
	for n, err := filesystem.ErrorCount(device); n != 1 || err != nil; n, err = filesystem.ErrorCount(device) {
		select {
		case <-limit:
			t.Fatalf("%d errors, %v, after one at %s", n, err, dir)
		case <-tick:
		}
	}
}
