package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attach gives a loop device for an image as the driver sets one up: 512-byte sectors, direct I/O.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = control.Close() }() // nothing was written to it
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: 512}
		config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		if err := device.Close(); err != nil {
			return nil, err
		}
		if !errors.Is(err, unix.EBUSY) { // another process was first: look again
			return nil, fmt.Errorf("attach %s: %w", image.Name(), err)
		}
	}
}

// detach frees a device and closes it.
func detach(device *os.File) error {
	err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0)
	return errors.Join(err, device.Close())
}
