// Package host reads what identifies this machine and its present run.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Config says where the machine's files are.
type Config struct {
	// Root is the folder that stands for "/"; empty means "/".
	Root string
}

// Host answers for one machine. It keeps nothing: each call reads the file again.
type Host struct {
	root string
}

// New returns a Host.
func New(c Config) *Host {
	if c.Root == "" {
		c.Root = "/"
	}
	return &Host{root: c.Root}
}

// machineIDs are the files that may hold the machine ID, as machine-id(5) and dbus-uuidgen(1) name
// them; the first that is there counts.
func machineIDs() []string { return []string{"etc/machine-id", "var/lib/dbus/machine-id"} }

// MachineID returns the 32 lower-case hexadecimal digits that identify this installation of the
// operating system (machine-id(5)). fault.Precondition: there is none yet; the error says how to make one.
func (h *Host) MachineID() (string, error) {
	var found []string
	for _, name := range machineIDs() {
		path := filepath.Join(h.root, name)
		id, err := readLine(path)
		if errors.Is(err, fs.ErrNotExist) {
			found = append(found, path+" is not there")
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the machine ID: %w", err)
		}
		if isHex(id, 32) && strings.Trim(id, "0") != "" {
			return id, nil
		}
		found = append(found, fmt.Sprintf("%s holds %q", path, clip(id)))
	}
	return "", fault.New(fault.Precondition, "this machine has no machine ID of 32 hexadecimal digits (%s): run systemd-machine-id-setup, or dbus-uuidgen --ensure=/etc/machine-id",
		strings.Join(found, ", "))
}

// BootID returns the UUID that the kernel gave to this boot (proc(5), /proc/sys/kernel/random/boot_id).
// It differs after each restart of the machine.
func (h *Host) BootID() (string, error) {
	path := filepath.Join(h.root, "proc/sys/kernel/random/boot_id")
	id, err := readLine(path)
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	if !isHex(strings.ReplaceAll(id, "-", ""), 32) {
		return "", fmt.Errorf("read the boot ID: %s holds %q, not a UUID", path, clip(id))
	}
	return id, nil
}

// KernelRelease returns the running kernel's release, as uname -r prints it.
func (h *Host) KernelRelease() (string, error) {
	path := filepath.Join(h.root, "proc/sys/kernel/osrelease")
	r, err := readLine(path)
	if err != nil {
		return "", fmt.Errorf("read the kernel's release: %w", err)
	}
	if r == "" {
		return "", fmt.Errorf("read the kernel's release: %s is empty", path)
	}
	return r, nil
}

// readLine returns a file's content without the white space around it.
func readLine(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(b)), nil
}

// isHex tells whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// clip shortens what goes into an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
