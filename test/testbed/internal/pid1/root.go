package pid1

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// modulesDir is where Debian's package keeps the modules of its User-Mode Linux kernels.
const modulesDir = "/usr/lib/uml/modules"

// enterRoot makes the host's root file system, which is mounted read-only, the lower half of an overlay on
// a tmpfs and moves into it. It is a real pivot: setns to process 1's mount namespace gets here as well.
func enterRoot() error {
	if err := loadModuleFile("kernel/fs/overlayfs/overlay.ko"); err != nil {
		return err
	}
	const base = "/mnt" // any empty folder that each Linux has
	if err := unix.Mount("testbed", base, "tmpfs", 0, "size=75%"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, folder := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, folder), 0o755); err != nil {
			return err
		}
	}
	root := filepath.Join(base, "root")
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base)
	if err := unix.Mount("testbed", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return os.Chdir("/")
}

func kernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return string(bytes.TrimRight(name.Release[:], "\x00")), nil
}

// loadModuleFile loads one module without asking modprobe, which takes 20 ms.
func loadModuleFile(name string) error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(modulesDir, release, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil {
		return fmt.Errorf("load the kernel module %s: %w", name, err)
	}
	return nil
}
