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

// maxTries bounds how often Attach takes another free device because somebody else was faster. Each
// loss is another's success, so that many in a row mean that something is wrong.
const maxTries = 256

// Attach returns a loop device that backs image, a regular file or a block device that is open for what is asked of it. A
// block device is known by its node.
// One that backs the whole image already, with the same ReadOnly, is used again: a detachment that
// waits for its last user is taken back, its size made that of the image, its direct I/O and discard
// settings as asked for (a discard once refused can't be allowed again while the image is attached, as
// Device.Discard says). Two calls at once for one image get one device.
//
// The device takes a description of its own: closing image, its offset and its locks don't matter to
// it. Errors: fault.Invalid for options that can't be met, fault.Busy where other users of loop
// devices win every race, fault.Unavailable where the machine has no loop devices.
func (m *Manager) Attach(ctx context.Context, image *os.File, o Options) (Device, error) {
	d, err := m.attach(ctx, image, o)
	return d, fault.Wrap(err, "attach a loop device to", image.Name())
}

func (m *Manager) attach(ctx context.Context, image *os.File, o Options) (Device, error) {
	sectorSize, err := o.check()
	if err != nil {
		return Device{}, err
	}
	o.SectorSize = sectorSize
	key, size, err := identify(image)
	if err != nil {
		return Device{}, err
	}
	unlock, err := m.images.lock(ctx, key)
	if err != nil {
		return Device{}, err
	}
	defer unlock()
	s := slot{key, o.ReadOnly}
	n, err := m.find(s)
	if err != nil {
		return Device{}, err
	}
	if n != nil {
		defer n.close()
		return m.reuse(ctx, n, size, o)
	}
	return m.attachNew(ctx, image, s, o)
}

// find returns the device that backs s, open, or nil. It looks only where the index points.
func (m *Manager) find(s slot) (*node, error) {
	for _, number := range m.index.lookup(s) {
		n, err := m.verify(s, number)
		if n != nil || err != nil {
			return n, err
		}
		m.index.drop(s, number)
	}
	return nil, nil
}

// verify returns a device, open, if it backs s; while it is open it goes on backing it. Else nil.
func (m *Manager) verify(s slot, number int) (*node, error) {
	n, err := m.open(number, unix.O_RDONLY)
	if errors.Is(err, errNotAttached) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := n.status()
	if err == nil {
		if is, whole := slotOf(info); whole && is == s {
			return n, nil
		}
	}
	n.close()
	if err != nil && !errors.Is(err, errNotAttached) {
		return nil, fmt.Errorf("%s: %w", n.path, err)
	}
	return nil, nil
}

// reuse makes an attached device what o and the image's size ask for.
func (m *Manager) reuse(ctx context.Context, n *node, imageBytes int64, o Options) (Device, error) {
	info, err := n.status()
	if err != nil {
		return Device{}, fmt.Errorf("%s: %w", n.path, err)
	}
	if info.Flags&unix.LO_FLAGS_AUTOCLEAR != 0 {
		info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
		err := step.Do(ctx, "loop: keep "+n.path, func() error { return unix.IoctlLoopSetStatus64(n.fd, info) })
		if err != nil {
			return Device{}, fmt.Errorf("%s: take its detachment back: LOOP_SET_STATUS64: %w", n.path, err)
		}
	}
	if err := setDirectIO(ctx, n, info, o.DirectIO); err != nil {
		return Device{}, err
	}
	size, err := n.bytes()
	if err != nil {
		return Device{}, err
	}
	if size>>9 != imageBytes>>9 {
		if err := n.setCapacity(ctx); err != nil {
			return Device{}, err
		}
	}
	return m.finish(ctx, n, o, true)
}

// setDirectIO switches between direct and buffered I/O. What the image's file system can't do is no error.
func setDirectIO(ctx context.Context, n *node, info *unix.LoopInfo64, want bool) error {
	if (info.Flags&unix.LO_FLAGS_DIRECT_IO != 0) == want {
		return nil
	}
	value := 0
	if want {
		value = 1
	}
	return step.Do(ctx, fmt.Sprintf("loop: set direct I/O of %s to %v", n.path, want), func() error {
		err := unix.IoctlSetInt(n.fd, unix.LOOP_SET_DIRECT_IO, value)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s: LOOP_SET_DIRECT_IO: %w", n.path, err)
		}
		return nil
	})
}

// finish sets what doesn't come with the attachment, and describes the device.
func (m *Manager) finish(ctx context.Context, n *node, o Options, reused bool) (Device, error) {
	// Without any discard the volume works; what must not be is holes in one that was promised its space.
	if err := m.setDiscard(ctx, n, o.Discard); err != nil && !(reused && errors.Is(err, errStuck)) {
		return Device{}, err
	}
	if !o.ReadOnly {
		if err := setWritable(ctx, n); err != nil {
			return Device{}, err
		}
	}
	return m.describe(n)
}

// attachNew attaches the image to a free device.
func (m *Manager) attachNew(ctx context.Context, image *os.File, s slot, o Options) (Device, error) {
	imageFD, err := reopen(image, o.ReadOnly)
	if err != nil {
		return Device{}, err
	}
	defer func() { _ = unix.Close(imageFD) }() // the device has its own reference
	// Numbers stay claimed until the end, so that one which can't be had isn't tried for ever.
	var claimed []int
	defer func() { m.free.leave(claimed...) }()
	for range maxTries {
		if err := ctx.Err(); err != nil {
			return Device{}, err
		}
		number, err := m.take(ctx, o.Discard)
		if err != nil {
			return Device{}, err
		}
		claimed = append(claimed, number)
		d, err := m.attachTo(ctx, number, imageFD, s, o)
		switch {
		case err == nil:
			return d, nil
		case errors.Is(err, errStuck):
			m.free.put(number, refusing)
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, errNotAttached) && !errors.Is(err, fs.ErrNotExist):
			return Device{}, err
		}
	}
	return Device{}, fault.New(fault.Busy, "others took each of %d free loop devices first: try again", maxTries)
}

// take returns a free device that no other goroutine of this process is at. Of several that ask the
// kernel at once all get the same one: who comes second gets a new one instead of waiting. A device
// that is to refuse discards is never one that others could have used.
func (m *Manager) take(ctx context.Context, discard bool) (number int, err error) {
	number, ok, err := m.takeSpare(useOf(discard))
	if ok || err != nil {
		return number, err
	}
	err = step.Do(ctx, "loop: find a free device", func() error {
		number = -1
		if discard {
			number, err = m.loopControl(ctx, unix.LOOP_CTL_GET_FREE, 0)
		}
		for err == nil && (number < 0 || !m.free.claim(number)) {
			number, err = m.loopControl(ctx, unix.LOOP_CTL_ADD, -1)
		}
		return err
	})
	return number, err
}

// maxSorted bounds how many unsorted devices one attachment looks at, so that it costs no more where
// there are many.
const maxSorted = 32

// takeSpare returns a device that is known to be free and fit.
func (m *Manager) takeSpare(want use) (number int, ok bool, err error) {
	for {
		if number, ok = m.free.take(want); !ok {
			break
		}
		if !m.isAttached(number) {
			return number, true, nil
		}
		m.free.leave(number) // a stranger's by now
	}
	for range maxSorted {
		if number, ok = m.free.take(unsorted); !ok {
			return 0, false, nil
		}
		restricted, err := m.restricted(number)
		is := useOf(!restricted)
		switch {
		case err == nil && is == want && !m.isAttached(number):
			return number, true, nil
		case err == nil && is != want:
			m.free.put(number, is)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			m.free.leave(number)
			return 0, false, err
		}
		m.free.leave(number)
	}
	return 0, false, nil
}

// attachTo attaches the image to one free device. What fails half-way is taken back.
func (m *Manager) attachTo(ctx context.Context, number, imageFD int, s slot, o Options) (Device, error) {
	mode := unix.O_RDWR
	if o.ReadOnly {
		mode = unix.O_RDONLY
	}
	n, err := m.openOrMake(ctx, number, mode)
	if err != nil {
		return Device{}, err
	}
	defer n.close()
	if err := n.configure(ctx, imageFD, o); err != nil {
		return Device{}, err
	}
	m.index.put(s, number)
	d, err := m.finish(ctx, n, o, false)
	if err != nil {
		if cleared := n.clear(ctx); cleared == nil {
			m.index.drop(s, number)
		}
		return Device{}, err
	}
	return d, nil
}

// configure attaches an image (LOOP_CONFIGURE, Linux 5.8). EBUSY: somebody else took the device.
func (n *node) configure(ctx context.Context, imageFD int, o Options) error {
	c := unix.LoopConfig{Fd: uint32(imageFD), Size: uint32(o.SectorSize)}
	if o.ReadOnly {
		c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	if o.DirectIO {
		c.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(c.Info.File_name[:], o.Name)
	err := step.Do(ctx, "loop: attach "+o.Name+" to "+n.path, func() error { return unix.IoctlLoopConfigure(n.fd, &c) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL):
		return fault.New(fault.Invalid, "%s: the kernel refuses a sector size of %d bytes, or this image: LOOP_CONFIGURE: %w", n.path, o.SectorSize, err)
	case errors.Is(err, unix.ENOTTY):
		return fault.New(fault.Precondition, "%s: this kernel lacks LOOP_CONFIGURE: Linux 5.8 or later is needed: %w", n.path, err)
	}
	return fmt.Errorf("%s: LOOP_CONFIGURE: %w", n.path, err)
}

// setCapacity makes the device as large as its image (LOOP_SET_CAPACITY).
func (n *node) setCapacity(ctx context.Context) error {
	return step.Do(ctx, "loop: set capacity of "+n.path, func() error {
		if err := unix.IoctlSetInt(n.fd, unix.LOOP_SET_CAPACITY, 0); err != nil {
			return fmt.Errorf("%s: LOOP_SET_CAPACITY: %w", n.path, err)
		}
		return nil
	})
}
