package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// links is where paths to disks lie that stay the same wherever these are attached: below /dev, as /dev/disk is, and on a
// tmpfs of the sandbox's own.
const links = "/dev/shm"

// ownLinks mounts that tmpfs.
func ownLinks() error {
	if err := os.MkdirAll(links, 0o1777); err != nil {
		return err
	}
	return unix.Mount("tmpfs", links, "tmpfs", 0, "") // machines that tests start have their memory there
}

// DeviceLink returns a path below /dev at which there is nothing, for a link to a disk. It goes with the sandbox.
func DeviceLink() (string, error) {
	dir, err := os.MkdirTemp(links, "disk-")
	return filepath.Join(dir, "disk"), err
}

// AttachDisk attaches an image as a disk with sectors of that size, and returns its device's path. The kernel doesn't look
// for partitions on it.
func AttachDisk(image string, sector int) (device string, err error) {
	return losetup(image, sector)
}

// AttachPart attaches a part of an image.
func AttachPart(image string, sector int, start, bytes int64) (device string, err error) {
	return losetup(image, sector, "--offset", strconv.FormatInt(start, 10), "--sizelimit", strconv.FormatInt(bytes, 10))
}

func losetup(image string, sector int, options ...string) (string, error) {
	args := append([]string{"--find", "--show", "--sector-size", strconv.Itoa(sector)}, options...)
	out, err := exec.Command("losetup", append(args, image)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("attach %s: %w: %s", image, err, out)
	}
	device := strings.TrimSpace(string(out))
	// Whoever had the device before may have left it write-protected.
	return device, Run("blockdev", "--setrw", device)
}

// DetachDisk detaches a loop device and its partitions. One that is in use is an error.
func DetachDisk(device string) error {
	return errors.Join(dropPartitions(filepath.Base(device)), Run("losetup", "--detach", device))
}

// dropPartitions has the kernel forget the partitions of a loop device, which would outlive its image.
func dropPartitions(name string) error {
	parts, err := filepath.Glob(filepath.Join("/sys/block", name, name+"p*", "partition"))
	for _, path := range parts {
		text, readErr := os.ReadFile(path)
		if readErr != nil {
			continue // gone meanwhile
		}
		err = errors.Join(err, Run("delpart", "/dev/"+name, strings.TrimSpace(string(text))))
	}
	return err
}

// RunInput is Run for a tool that reads its standard input.
func RunInput(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
