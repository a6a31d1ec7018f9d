package embedded

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// holder names the process that holds a lock on the file, as " (process 123)", or is empty where the
// kernel's list of locks, proc_locks(5), does not tell: the process may be out of sight in another PID
// namespace, and file systems of several devices (btrfs) stand there under another number.
func holder(path string) string {
	var file unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	return lockHolder(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino))
}

// lockHolder finds a flock(2) in lines like "1: FLOCK  ADVISORY  WRITE 18620 fe:00:9805827 0 EOF".
func lockHolder(locks, file string) string {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == file && f[4] != "0" && f[4] != "-1" {
			return " (process " + f[4] + ")"
		}
	}
	return ""
}
