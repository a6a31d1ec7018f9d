package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Find returns the device that backs image, if there is one with that ReadOnly. Where the index knows
// none it asks each attached loop device of the machine.
func (m *Manager) Find(image *os.File, readOnly bool) (Device, bool, error) {
	d, found, err := m.lookFor(image, readOnly)
	return d, found, fault.Wrap(err, "find the loop device of", image.Name())
}

func (m *Manager) lookFor(image *os.File, readOnly bool) (Device, bool, error) {
	key, _, err := identify(image)
	if err != nil {
		return Device{}, false, err
	}
	s := slot{key, readOnly}
	n, err := m.find(s)
	if n == nil && err == nil {
		if err = m.scan(); err == nil {
			n, err = m.find(s)
		}
	}
	if n == nil || err != nil {
		return Device{}, false, err
	}
	defer n.close()
	d, err := m.describe(n)
	return d, err == nil, err
}

// scan fills the index from all attached devices.
func (m *Manager) scan() error {
	numbers, err := m.all()
	if err != nil {
		return err
	}
	for _, number := range numbers {
		if !m.isAttached(number) {
			continue
		}
		if err := m.learn(number); err != nil {
			return err
		}
	}
	return nil
}

// Refresh makes the device as large as its image is now (LOOP_SET_CAPACITY). fault.Precondition: the
// device no longer backs that image.
func (m *Manager) Refresh(ctx context.Context, d Device) (Device, error) {
	fresh, err := m.refresh(ctx, d)
	return fresh, fault.Wrap(err, "refresh the size of", d.Path)
}

func (m *Manager) refresh(ctx context.Context, d Device) (Device, error) {
	if err := ctx.Err(); err != nil {
		return Device{}, err
	}
	n, err := m.verify(slot{imageKey{d.ImageDev, d.ImageInode}, d.ReadOnly}, d.Number)
	if err != nil {
		return Device{}, err
	}
	if n == nil {
		return Device{}, fault.New(fault.Precondition, "it no longer backs the image with device %d and inode %d: attach that anew", d.ImageDev, d.ImageInode)
	}
	defer n.close()
	if err := n.setCapacity(ctx); err != nil {
		return Device{}, err
	}
	return m.describe(n)
}

// Detach detaches image from all loop devices that back it, writable and read-only. One in use is
// detached by the kernel when its last user closes it (autoclear); that, and no device, is success.
// Where the index knows no device, each attached one of the machine is asked.
func (m *Manager) Detach(ctx context.Context, image *os.File) error {
	return fault.Wrap(m.detach(ctx, image), "detach", image.Name())
}

func (m *Manager) detach(ctx context.Context, image *os.File) error {
	key, _, err := identify(image)
	if err != nil {
		return err
	}
	unlock, err := m.images.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := m.detachKnown(ctx, key)
	if found || err != nil {
		return err
	}
	if err := m.scan(); err != nil {
		return err
	}
	_, err = m.detachKnown(ctx, key)
	return err
}

// detachKnown detaches the devices that the index names and that do back the image.
func (m *Manager) detachKnown(ctx context.Context, key imageKey) (found bool, err error) {
	var failed []error
	for _, s := range []slot{{key, false}, {key, true}} {
		for _, number := range m.index.lookup(s) {
			n, err := m.verify(s, number)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			if n == nil {
				m.index.drop(s, number)
				continue
			}
			found = true
			if err := m.detachFrom(ctx, n, s); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return found, errors.Join(failed...)
}

// detachFrom detaches one verified device and closes it.
func (m *Manager) detachFrom(ctx context.Context, n *node, s slot) error {
	restricted, err := m.restricted(n.number)
	if err == nil {
		err = n.clear(ctx)
	}
	if err != nil {
		n.close()
		return err
	}
	if _, err := n.status(); !errors.Is(err, errNotAttached) {
		// In use: the kernel detaches it with its last user. The index still knows it, so that an
		// Attach can take that back.
		n.close()
		return nil
	}
	m.index.drop(s, n.number)
	n.close() // now it is free
	m.free.put(n.number, useOf(!restricted))
	return nil
}

// clear takes the image off the device, now or with its last user (LOOP_CLR_FD).
func (n *node) clear(ctx context.Context) error {
	return step.Do(ctx, "loop: detach "+n.path, func() error {
		err := unix.IoctlSetInt(n.fd, unix.LOOP_CLR_FD, 0)
		if err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: LOOP_CLR_FD: %w", n.path, err)
		}
		return nil
	})
}
