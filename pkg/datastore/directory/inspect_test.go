package directory_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestInspectMakesNoPoolAndTakesNoneOver(t *testing.T) {
	path := disk(t, "ext4", 64*mib)
	c := config(t, path)
	c.Inspect = true
	if _, err := directory.Type().New(t.Context(), c); !fault.Is(err, fault.NotFound) {
		t.Errorf("a blank directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, ".datastore-csi")); !os.IsNotExist(err) {
		t.Errorf("it was marked: %v", err)
	}
	made := config(t, path)
	made.Host = "node-1"
	open(t, made)
	must(t, os.RemoveAll(filepath.Join(path, "volumes")))
	before := content(t, path, markerPath)
	moved := config(t, path)
	moved.Inspect, moved.MachineID = true, "another"
	if _, err := directory.Type().New(t.Context(), moved); !fault.Is(err, fault.Precondition) {
		t.Errorf("another machine's: %v", err)
	}
	moved.Datastore.Spec.Directory.AdoptFrom = machine
	p := open(t, moved)
	status, err := p.Status(t.Context())
	if err != nil || status.Host != "node-1" {
		t.Errorf("it was made by host %q, %v", status.Host, err)
	}
	if now := content(t, path, markerPath); now != before {
		t.Errorf("its marker is now %s", now)
	}
	if _, err := os.Stat(filepath.Join(path, "volumes")); !os.IsNotExist(err) {
		t.Errorf("a folder was made: %v", err)
	}
}

func TestInUse(t *testing.T) {
	path := disk(t, "ext4", 64*mib)
	p := open(t, config(t, path))
	used := func(v datastore.Volume) bool {
		t.Helper()
		used, err := datastore.InUse(t.Context(), p, v)
		must(t, err)
		return used
	}
	v := thin("v", 16*mib)
	create(t, p, v)
	if used(v) {
		t.Error("an image that nobody opened")
	}
	_, err := p.Open(t.Context(), v, false)
	must(t, err)
	if !used(v) {
		t.Error("an image that is attached is not in use")
	}
	must(t, p.Close(t.Context(), v))
	if used(v) {
		t.Error("an image that was detached")
	}
	dir := tree("dir", 16*mib)
	create(t, p, dir)
	if used(dir) {
		t.Error("a directory that nobody mounted")
	}
	opened, err := p.Open(t.Context(), dir, false)
	must(t, err)
	target := t.TempDir()
	must(t, unix.Mount(opened.Dir, target, "", unix.MS_BIND, ""))
	if !used(dir) {
		t.Error("a directory that is mounted is not in use")
	}
	must(t, unix.Unmount(target, 0))
	if used(dir) {
		t.Error("a directory that was unmounted")
	}
	if _, err := datastore.InUse(t.Context(), p, thin("none", mib)); !fault.Is(err, fault.NotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}
