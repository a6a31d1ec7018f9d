package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// attach gives a loop device for an image that the kernel detaches at its last close. Direct I/O is used where
// the image's file system can.
func attach(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the device holds it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = control.Close() }()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			// Whoever had the device before may have left it write-protected.
			if err := unix.IoctlSetPointerInt(int(device.Fd()), unix.BLKROSET, 0); err != nil {
				return nil, errors.Join(fmt.Errorf("make %s writable: %w", device.Name(), err), device.Close())
			}
			return device, nil
		}
		if err := device.Close(); err != nil {
			return nil, err
		}
		if !errors.Is(err, unix.EBUSY) { // another process was first: look again
			return nil, fmt.Errorf("attach %s: %w", image, err)
		}
	}
}

// DetachUnder detaches all loop devices whose image lies under a folder.
func DetachUnder(folder string) error {
	loops, err := Loops(folder)
	if err != nil {
		return err
	}
	var errs []error
	for name := range loops {
		device, err := os.OpenFile("/dev/"+name, os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, dropPartitions(name))
		if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
			errs = append(errs, fmt.Errorf("detach %s: %w", name, err))
		}
		errs = append(errs, device.Close())
	}
	return errors.Join(errs...)
}

// Loops gives the loop devices whose image lies under a folder: image by the device's name ("loop3").
func Loops(under string) (map[string]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	loops := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, err
		}
		image := strings.TrimSpace(string(text))
		if image == under || strings.HasPrefix(image, under+"/") {
			loops[strings.Split(file, "/")[3]] = image
		}
	}
	return loops, nil
}
