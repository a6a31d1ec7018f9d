package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machineFacts say what the figures were measured on.
type machineFacts struct {
	Kernel     string            `json:"kernel"`
	CPUs       int               `json:"cpus"`
	Processor  string            `json:"processor"`
	MemoryMiB  int64             `json:"memory_mib"`
	Filesystem string            `json:"filesystem"`
	LoadBefore string            `json:"load_before"`
	LoadAfter  string            `json:"load_after"`
	Versions   map[string]string `json:"versions"`
	// FsyncMs is one 4 KiB write to a file that has its space, and fdatasync(2).
	Fsync latency `json:"overwrite_and_fdatasync"`
}

func machine(driver, folder string) (machineFacts, error) {
	m := machineFacts{CPUs: runtime.NumCPU(), LoadBefore: loadAverage(), Versions: map[string]string{"go": runtime.Version()}}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	m.Processor, m.MemoryMiB = field("/proc/cpuinfo", "model name"), kibibytes("/proc/meminfo", "MemTotal")/1024
	var err error
	if m.Filesystem, err = filesystemOf(folder); err != nil {
		return m, err
	}
	if m.Fsync, err = fsyncs(folder); err != nil {
		return m, err
	}
	for name, argv := range map[string][]string{
		"datastore-csi": {driver, "version"}, "mke2fs": {"mke2fs", "-V"}, "mkfs.xfs": {"mkfs.xfs", "-V"},
	} {
		text, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			return m, fmt.Errorf("ask %s for its version: %w", name, err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		m.Versions[name] = strings.TrimPrefix(strings.TrimSpace(first), name+" ")
	}
	return m, nil
}

// loadAverage of the last minute and of five and fifteen.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// field reads "name : value" from a file of proc(5); "" where there is none.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kibibytes reads "Name: 123 kB"; 0 where there is none.
func kibibytes(path, name string) int64 {
	var n int64
	if _, err := fmt.Sscanf(field(path, name), "%d kB", &n); err != nil {
		return 0
	}
	return n
}

// filesystemOf names the file system that a folder lies on.
func filesystemOf(folder string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return "", err
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	}
	if name, ok := names[s.Type]; ok {
		return name, nil
	}
	return fmt.Sprintf("%#x", s.Type), nil
}
