package leftovers_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/internal/leftovers"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// image makes a file below folder, attaches it to a loop device and returns both.
func image(t *testing.T, folder string) (file, device string) {
	t.Helper()
	file = filepath.Join(folder, "disk.raw")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 16<<20); err != nil {
		t.Fatal(err)
	}
	device = run(t, "losetup", "--find", "--show", file)
	return file, device
}

func TestEverythingLeftBehindIsFound(t *testing.T) {
	folder, other := t.TempDir(), t.TempDir()
	outer, store := filepath.Join(folder, "outer"), filepath.Join(folder, "store")
	trash := filepath.Join(store, ".datastore-csi/trash/gone")
	for _, d := range []string{outer, trash, filepath.Join(store, "volumes")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file, device := image(t, folder)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	run(t, "mount", "-t", "tmpfs", "none", outer)
	t.Cleanup(func() { run(t, "umount", outer) })
	inner := filepath.Join(outer, "inner")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-t", "tmpfs", "none", inner)
	t.Cleanup(func() { run(t, "umount", inner) })

	want := []string{"mount " + inner, "mount " + outer, "loop device " + device + " on " + file, "file " + trash}
	if got, err := leftovers.In(folder, []string{store}); err != nil || !slices.Equal(got, want) {
		t.Errorf("In returned %q, %v; want %q", got, err, want)
	}
	if got, err := leftovers.In(other, nil); err != nil || len(got) != 0 {
		t.Errorf("In found %q, %v in a folder with nothing", got, err)
	}
}

func TestGoneWaitsForWhatVanishesAndNamesWhatStays(t *testing.T) {
	store := t.TempDir()
	left := filepath.Join(store, "volumes", "v-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := leftovers.Gone(ctx, store, []string{store}); err == nil || !strings.Contains(err.Error(), left) {
		t.Errorf("Gone returned %v; want an error that names %s", err, left)
	}
	go func() { _ = os.Remove(left) }()
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := leftovers.Gone(ctx, store, []string{store}); err != nil {
		t.Errorf("Gone returned %v after the file went", err)
	}
}
