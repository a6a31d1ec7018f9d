package filesystem_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestExt4GrowsUnmountedToItsDevice(t *testing.T) {
	path := sparse(t, 64*mib)
	if err := filesystem.Make(t.Context(), runner(), path, filesystem.Format{Type: filesystem.Ext4, UUID: someUUID, SectorSize: 512, Zeroed: true}); err != nil {
		t.Fatal(err)
	}
	resize(t, path, 3*gib)
	for _, what := range []string{"the first time", "again"} {
		if err := filesystem.GrowUnmounted(t.Context(), runner(), path, filesystem.Ext4); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := filesystem.ReadSuperblock(f)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || sig.UUID != someUUID || sig.Bytes != 3*gib {
			t.Errorf("%s: %+v, %v", what, sig, err)
		}
	}
	do(t, "e2fsck", "-fn", path)
}

func TestWhatGrowsMountedOnlyIsRefused(t *testing.T) {
	path := sparse(t, 300*mib)
	err := filesystem.GrowUnmounted(t.Context(), runner(), path, filesystem.XFS)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("got %v", err)
	}
}

func TestGrowsMountedKnowsTheCapability(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var effective string
	for line := range strings.Lines(string(status)) {
		if s, ok := strings.CutPrefix(line, "CapEff:"); ok {
			effective = strings.TrimSpace(s)
		}
	}
	// Bit 24 is the lowest of the seventh digit from the right.
	digit := effective[len(effective)-7]
	want := strings.ContainsRune("13579bdf", rune(digit))
	if got, err := filesystem.GrowsMounted(filesystem.Ext4); err != nil || got != want {
		t.Errorf("ext4: %t, %v; CapEff is %s", got, err, effective)
	}
	if got, err := filesystem.GrowsMounted(filesystem.XFS); err != nil || !got {
		t.Errorf("xfs: %t, %v", got, err)
	}
}

// resize2fs, killed half way, leaves the mark of errors that nobody counted, the old size, and half written tables.
func TestAnInterruptedGrowthOfExt4IsFinished(t *testing.T) {
	path := sparse(t, 64*mib)
	if err := filesystem.Make(t.Context(), runner(), path, filesystem.Format{Type: filesystem.Ext4, UUID: someUUID, SectorSize: 512, Zeroed: true}); err != nil {
		t.Fatal(err)
	}
	resize(t, path, 512*mib)
	do(t, "debugfs", "-w", "-R", "ssv state 3", path)
	do(t, "debugfs", "-w", "-R", "sif <7> block[0] 1", path)
	if err := exec.Command("e2fsck", "-p", path).Run(); err == nil {
		t.Fatal("e2fsck -p repairs what was to be beyond it")
	}
	if err := filesystem.Check(t.Context(), runner(), path, filesystem.Ext4); err != nil {
		t.Fatalf("check: %v", err)
	}
	if err := filesystem.GrowUnmounted(t.Context(), runner(), path, filesystem.Ext4); err != nil {
		t.Fatalf("grow: %v", err)
	}
	do(t, "e2fsck", "-fn", path)
}

func TestADamagedExt4OnALargerDeviceIsNotTakenForAnInterruptedGrowth(t *testing.T) {
	path := sparse(t, 64*mib)
	if err := filesystem.Make(t.Context(), runner(), path, filesystem.Format{Type: filesystem.Ext4, UUID: someUUID, SectorSize: 512, Zeroed: true}); err != nil {
		t.Fatal(err)
	}
	resize(t, path, 128*mib)
	for _, counted := range []string{"error_count 3", "state 1"} {
		do(t, "debugfs", "-w", "-R", "ssv state 3", path)
		do(t, "debugfs", "-w", "-R", "ssv "+counted, path)
		do(t, "debugfs", "-w", "-R", "sif <7> block[0] 1", path) // what e2fsck -p doesn't repair
		if err := filesystem.GrowUnmounted(t.Context(), runner(), path, filesystem.Ext4); !fault.Is(err, fault.Precondition) {
			t.Errorf("%s: %v", counted, err)
		}
	}
}
