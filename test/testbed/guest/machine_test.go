package guest

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

func TestMachineHasItsOwnName(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if want := os.Getenv(testbed.GuestVariable); name != want {
		t.Errorf("host name %q, want %q", name, want)
	}
	if got, want := read(t, "/etc/machine-id"), testbed.MachineID(name); got != want {
		t.Errorf("machine-id %s, want %s", got, want)
	}
}

func TestStandardInputIsEmpty(t *testing.T) {
	if got, err := io.ReadAll(os.Stdin); err != nil || len(got) > 0 {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestEnvironmentIsFit(t *testing.T) {
	if got := run(t, "sh", "-c", "echo $HOME $LANG; pwd"); !strings.HasPrefix(got, "/root C\n/") {
		t.Errorf("home, language and folder: %q", got)
	}
	if _, err := os.Stat("doc.go"); err != nil {
		t.Errorf("the working folder is not this package's: %v", err)
	}
}

func TestControlGroupsAreUnified(t *testing.T) {
	if got := read(t, "/sys/fs/cgroup/cgroup.controllers"); !strings.Contains(got, "io") {
		t.Errorf("controllers: %q, want io among them", got)
	}
}

func TestMountsAreSharedAsOnAMachineWithAServiceManager(t *testing.T) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter("/"))
	if err != nil || len(mounts) != 1 {
		t.Fatalf("mounts on /: %v, %v", mounts, err)
	}
	if mounts[0].FSType != "overlay" || !strings.Contains(mounts[0].Optional, "shared:") {
		t.Errorf("/ is %s with %q, want a shared overlay", mounts[0].FSType, mounts[0].Optional)
	}
}

func TestMountNamespaceOfProcessOneHasTheSameRoot(t *testing.T) {
	here := identity("/")
	found := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread has left the others' namespace
		found <- rootOfProcessOne()
	}()
	if there := <-found; there != here {
		t.Errorf("root of process 1's mount namespace: %s, want %s", there, here)
	}
}

func rootOfProcessOne() string {
	namespace, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return err.Error()
	}
	defer namespace.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err.Error()
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
		return err.Error()
	}
	return identity("/")
}

func identity(path string) string {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("device %d inode %d", stat.Dev, stat.Ino)
}
