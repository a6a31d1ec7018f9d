package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// tmpfs mounts a file system of that size (as mount(8) takes it) for the test.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// occupy takes all space that is left, and returns what gives it back.
func occupy(t *testing.T, dir string) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// bulky makes a record larger than what is free in the file.
func bulky(name string) *v1alpha1.DatastoreVolume {
	v := volume(name)
	v.Annotations = map[string]string{"bulk": strings.Repeat("x", 200_000)}
	return v
}

func TestAFullDiskFailsWritesAndLosesNothing(t *testing.T) {
	dir := tmpfs(t, "4m")
	c := config(filepath.Join(dir, "store.db"))
	db := open(t, c)
	volumes := db.Store().Volumes
	kept, err := volumes.Create(t.Context(), volume("kept"))
	if err != nil {
		t.Fatal(err)
	}
	release := occupy(t, dir)

	_, err = volumes.Create(t.Context(), bulky("bulky"))
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "bulky") || !strings.Contains(err.Error(), c.Path) {
		t.Errorf("got error %v", err)
	}
	if _, err := volumes.Get(t.Context(), "bulky"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the record that was not written: %v", err)
	}
	if v, err := volumes.Get(t.Context(), "kept"); err != nil || v != kept {
		t.Errorf("the record before it: %v, %v", v, err)
	}

	release()
	if _, err := volumes.Create(t.Context(), bulky("bulky")); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	_, err = store.ChangeStatus(t.Context(), volumes, "kept", func(v *v1alpha1.DatastoreVolume) error { v.Status.Nodes = nil; return nil })
	if err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	closed(t, db)
	again := opened(t, c).Store().Volumes
	if all, err := again.List(t.Context()); err != nil || len(all) != 2 || all[1].Status.Nodes != nil {
		t.Errorf("after the next opening there are %d records, %v", len(all), err)
	}
}

func TestAFullDiskAtTheFirstOpeningLeavesNothing(t *testing.T) {
	dir := tmpfs(t, "64k")
	release := occupy(t, dir)
	c := config(filepath.Join(dir, "store.db"))
	refused(t, c, fault.Unavailable, "no space left")
	release()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	db, err := embedded.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("when there is room again: %v", err)
	}
	closed(t, db)
}

func TestAReadOnlyFileSystemIsNamed(t *testing.T) {
	dir := tmpfs(t, "1m")
	c := config(filepath.Join(dir, "store.db"))
	closed(t, open(t, c))
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Open(t.Context(), c); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), c.Path) {
		t.Errorf("got error %v", err)
	}
}
