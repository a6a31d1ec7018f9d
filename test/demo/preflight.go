package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// roomNeeded is what both datastores together take, with a margin.
	roomNeeded = 2 << 30

	loopControl = "/dev/loop-control"
)

// preflight says plainly what the demo lacks on this machine. It returns the absolute path of the driver
// and the folder to work in, with no symbolic link in it.
func preflight(binary, parent string) (driver, folder string, err error) {
	driver, err = filepath.Abs(binary)
	if err != nil {
		return "", "", err
	}
	if info, err := os.Stat(driver); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", "", fmt.Errorf("there is no program %s; `make demo` builds the driver and then runs this", driver)
	}
	if uid := os.Geteuid(); uid != 0 {
		return "", "", fmt.Errorf("this needs root, since it attaches loop devices and mounts file systems, and runs as user %d; try `sudo make demo`", uid)
	}
	if info, err := os.Stat(loopControl); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return "", "", fmt.Errorf("this needs a Linux with loop devices, and %s is not there; try `modprobe loop` (in a container, run it on the host)", loopControl)
	}
	for _, tool := range []string{"mkfs.xfs", "blkid"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", "", fmt.Errorf("%s is not in the PATH; install xfsprogs and util-linux", tool)
		}
	}
	folder, err = workFolder(parent)
	return driver, folder, err
}

// workFolder chooses a folder on a file system that a directory datastore can lie on: the one asked for,
// or the first that fits.
func workFolder(asked string) (string, error) {
	candidates := []string{os.TempDir(), "/var/tmp"}
	if asked != "" {
		candidates = []string{asked}
	}
	var reasons []error
	for _, candidate := range candidates {
		folder, err := filepath.EvalSymlinks(candidate)
		if err == nil {
			folder, err = filepath.Abs(folder)
		}
		if err == nil {
			err = fits(folder)
		}
		if err == nil {
			return folder, nil
		}
		reasons = append(reasons, err)
	}
	return "", fmt.Errorf("no folder to work in; name one with --dir: %w", errors.Join(reasons...))
}

// fits tells why a folder is no place for the demo's datastores.
func fits(folder string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", folder, err)
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default:
		return fmt.Errorf("%s is not on ext4, xfs or btrfs (its file system has the number %#x)", folder, fs.Type)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < roomNeeded {
		return fmt.Errorf("%s has %s free, %s are needed", folder, inBytes(free), inBytes(roomNeeded))
	}
	return nil
}
