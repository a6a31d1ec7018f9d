package harness

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// machineVariable makes a package's tests run in a machine of the test bed, on the rows that need its kernel.
const machineVariable = "TEST_MACHINE"

// MachineDisk is the disk of such a machine, sparse: storage is cut out of it.
const MachineDisk = "/dev/ubda"

// machine is what the tests of such a machine need. Hung says for how long storage may hang, which some tests want it to.
func machine() []string {
	return []string{"-disk", "8T", "-memory", "3G", "-module", "loop", "-hung", "15m"}
}

// InMachine tells whether this is a machine of the test bed.
func InMachine() bool { return os.Getenv(testbed.GuestVariable) != "" }

// enterMachine runs this program anew in a machine, with a driver that is built here: it returns only where that can't be.
func enterMachine() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binary := os.Getenv(binaryVariable)
	if binary == "" { // beside this program, with which go test removes it
		binary = filepath.Join(filepath.Dir(self), "datastore-csi")
		if err := errors.Join(Build(binary), os.Setenv(binaryVariable, binary)); err != nil {
			return err
		}
	}
	testbed.Inside(append(machine(), "-share", filepath.Dir(self), "-share", filepath.Dir(binary))...)
	return nil
}

// GrowsMounted tells whether this machine lets a mounted file system of that type grow. ext4 grows only for a process
// with CAP_SYS_RESOURCE (ext4_resize_begin in the kernel's fs/ext4/resize.c), which a container or a machine made for
// tests may lack; there the suite expects a refusal that says so, and a User-Mode Linux machine shows the growth.
func GrowsMounted(fsType string) bool {
	if fsType != "ext4" && fsType != "" {
		return true
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), "\nCapEff:")
	digits, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
	return err != nil || set&(1<<unix.CAP_SYS_RESOURCE) != 0
}
