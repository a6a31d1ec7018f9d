package parts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
)

func TestAMachineWithoutIDKeepsOneInItsState(t *testing.T) {
	top := t.TempDir()
	proc := filepath.Join(top, "proc/sys/kernel/random")
	if err := os.MkdirAll(proc, 0o700); err != nil {
		t.Fatal(err)
	}
	const boot = "8b0a1f0e-0f5e-4d0c-9d55-0123456789ab"
	if err := os.WriteFile(filepath.Join(proc, "boot_id"), []byte(boot+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := file.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	h := host.New(host.Config{Root: top})
	first, err := parts.Identify(t.Context(), h, state)
	if err != nil || len(first.ID) != 32 || first.BootID != boot {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := parts.Recall(h, state.Path()); err != nil || again != first {
		t.Errorf("a look at it has %+v, %v", again, err)
	}
	if none, err := parts.Recall(h, t.TempDir()); !fault.Is(err, fault.Precondition) {
		t.Errorf("a look where none is kept: %+v, %v", none, err)
	}
	if again, err := parts.Identify(t.Context(), h, state); err != nil || again != first {
		t.Errorf("the next start has %+v, %v", again, err)
	}
	etc := filepath.Join(top, "etc")
	if err := os.Mkdir(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	const own = "0123456789abcdef0123456789abcdef"
	if err := os.WriteFile(filepath.Join(etc, "machine-id"), []byte(own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now, err := parts.Identify(t.Context(), h, state); err != nil || now != first {
		t.Errorf("a machine that got an ID later: %+v, %v; its pools are marked with %s", now, err, first.ID)
	}
	other, err := file.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if now, err := parts.Identify(t.Context(), h, other); err != nil || now.ID != own {
		t.Errorf("a machine with an ID of its own: %+v, %v", now, err)
	}
}
