package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountSystem mounts what a Linux system finds mounted after its start.
func mountSystem() error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	// The module makes its mount point in sysfs.
	if err := loadModuleFile("kernel/fs/configfs/configfs.ko"); err != nil {
		return err
	}
	mounts := []struct {
		source, target, fstype, options string
		flags                           uintptr
	}{
		{"proc", "/proc", "proc", "", 0},
		{"sys", "/sys", "sysfs", "", 0},
		{"dev", "/dev", "devtmpfs", "", 0},
		{"pts", "/dev/pts", "devpts", "ptmxmode=666", 0},
		{"shm", "/dev/shm", "tmpfs", "", 0},
		{"run", "/run", "tmpfs", "", 0},
		{"tmp", "/tmp", "tmpfs", "", 0},
		{"cgroup", "/sys/fs/cgroup", "cgroup2", "", 0},
		{filepath.Join(modulesDir, release), filepath.Join("/lib/modules", release), "", "", unix.MS_BIND},
		{"configfs", "/sys/kernel/config", "configfs", "", 0},
	}
	for _, m := range mounts {
		if !strings.HasPrefix(m.target, "/sys/") {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	if err := os.Chmod("/tmp", 0o1777); err != nil {
		return err
	}
	for _, folder := range []string{"/run/lock", "/run/lvm", "/run/udev"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return makeNodes(filepath.Join("/lib/modules", release, "modules.devname"))
}

// mountShare shows a folder of the host, read-write, at its own path.
func mountShare(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("share %s: %w", folder, err)
	}
	if err := unix.Mount("host", folder, "hostfs", 0, folder); err != nil {
		return fmt.Errorf("share %s: mount hostfs: %w", folder, err)
	}
	return nil
}

// makeNodes makes the links in /dev that shells expect and, as kmod does on a real machine, the nodes whose
// first opening loads a module: loop-control, mapper/control and so on.
func makeNodes(devname string) error {
	links := map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
	for name, descriptor := range links {
		if err := os.Symlink("/proc/self/fd"+descriptor, filepath.Join("/dev", name)); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(devname)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(content)) {
		var module, name string
		var kind rune
		var major, minor uint32
		if n, _ := fmt.Sscanf(line, "%s %s %c%d:%d", &module, &name, &kind, &major, &minor); n != 5 || kind != 'c' {
			continue // a comment, or a block device, which devtmpfs makes
		}
		path := filepath.Join("/dev", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", path, err)
		}
	}
	return nil
}
