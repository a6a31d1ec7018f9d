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
