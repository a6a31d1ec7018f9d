package quota

import (
	"os"
	"testing"
	"unsafe"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// What a kernel with project quotas answers is tested in one (test/tree).

func TestTheKernelsStructuresHaveTheirSizes(t *testing.T) {
	for name, c := range map[string]struct{ got, want uintptr }{
		"struct fs_disk_quota":  {unsafe.Sizeof(diskQuota{}), 112},
		"struct fs_quota_statv": {unsafe.Sizeof(quotaStatV{}), 160},
		"struct fsxattr":        {unsafe.Sizeof(fsxattr{}), sizeOfFsxattr},
	} {
		if c.got != c.want {
			t.Errorf("%s has %d bytes, want %d", name, c.got, c.want)
		}
	}
}

func TestAFileSystemWithoutProjectQuotasIsOff(t *testing.T) {
	f, err := os.Open("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := StateOf(f); s != Off || err != nil {
		t.Errorf("state %d, %v", s, err)
	}
	if id, inherits, err := Project(f); id != 0 || inherits || err != nil {
		t.Errorf("project %d, %t, %v", id, inherits, err)
	}
	if err := SetProject(t.Context(), f, 7); !fault.Is(err, fault.Precondition) {
		t.Errorf("set a project: %v", err)
	}
	for _, bytes := range []int64{-1} {
		if err := SetLimit(t.Context(), f, 7, bytes); !fault.Is(err, fault.Invalid) {
			t.Errorf("a limit of %d bytes: %v", bytes, err)
		}
	}
	if err := SetLimit(t.Context(), f, 0, 1); !fault.Is(err, fault.Invalid) {
		t.Errorf("a limit of project 0: %v", err)
	}
}

func TestLargeFiguresAreClamped(t *testing.T) {
	if got := bytesOf(1 << 60); got <= 0 {
		t.Errorf("%d", got)
	}
	if got := clamp(1 << 63); got <= 0 {
		t.Errorf("%d", got)
	}
}
