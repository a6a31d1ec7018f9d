package harness

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

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
