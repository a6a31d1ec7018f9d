package filesystem_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	someUUID = "11111111-2222-4333-8444-555555555555"
)

// all are the types, for tables over them.
var all = []filesystem.Type{filesystem.Ext4, filesystem.XFS, filesystem.Btrfs}

func runner() *command.Runner { return command.New(command.Config{}) }

// do runs a tool of the test's own and returns its output.
func do(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v: %s%s", argv, err, out, said.String())
	}
	return string(out)
}

// sparse makes a file of holes.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	resize(t, path, size)
	return path
}

func resize(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// thick makes a file whose space is allocated.
func thick(t *testing.T, size int64) string {
	t.Helper()
	path := sparse(t, 0)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// allocated is the space that a file takes, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// attach makes a loop device of a file.
func attach(t *testing.T, image string, options ...string) string {
	t.Helper()
	device := strings.TrimSpace(do(t, append([]string{"losetup", "-f", "--show", image}, options...)...))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	do(t, "blockdev", "--setrw", device) // the protection that somebody gave to this number outlives his device
	return device
}

// mounted mounts a device on a new folder until the test ends.
func mounted(t *testing.T, device string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	do(t, append([]string{"mount", device, dir}, options...)...)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// digest is the checksum of a file's data and of where it lies.
func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	for end := int64(0); ; {
		begin, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return hex.EncodeToString(sum.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		if end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintln(sum, begin, end)
		if _, err := io.Copy(sum, io.NewSectionReader(f, begin, end-begin)); err != nil {
			t.Fatal(err)
		}
	}
}

// format is a Format that suits every test. Its UUID is new: the kernel and mkfs.btrfs know a btrfs by it.
func format(fs filesystem.Type) filesystem.Format {
	return filesystem.Format{Type: fs, UUID: uuid.NewString(), SectorSize: 512, Zeroed: true}
}

// fakeTool writes a shell script with a tool's name, and returns a Runner that finds only it and the
// named true tools.
func fakeTool(t *testing.T, name, script string, others ...string) *command.Runner {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nPATH=/usr/bin:/bin\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		path, err := exec.LookPath(other)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, other)); err != nil {
			t.Fatal(err)
		}
	}
	return command.New(command.Config{Path: dir})
}

// write puts bytes at an offset of a file or device.
func write(t *testing.T, path string, offset int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
