package guest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

func TestMain(m *testing.M) {
	testbed.Inside("-disk", "1G,1G")
	os.Exit(m.Run())
}

// run runs a tool and gives what it printed.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	// Without the test's context, which has ended when its clean-up runs. The machine's time limit is the bound.
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// mount mounts source on a new folder for the time of the test.
func mount(t *testing.T, source, fstype, options string) string {
	t.Helper()
	target := t.TempDir()
	if err := unix.Mount(source, target, fstype, 0, options); err != nil {
		t.Fatalf("mount %s as %s with %q: %v", source, fstype, options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
	return target
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// blank makes a disk read as zeros, whatever a test before left on it.
func blank(t *testing.T, disk string) string {
	t.Helper()
	run(t, "wipefs", "--all", "--force", "--quiet", disk)
	run(t, "blkdiscard", "--force", "--zeroout", "--length", "16M", disk)
	return disk
}
