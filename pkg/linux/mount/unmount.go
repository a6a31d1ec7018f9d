package mount

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Unmount takes off the topmost mount of target and no other. A target that is not there or is no
// mount point is success. A mount that stays in use for a second is fault.Busy. It works on a corrupted mount too.
func (m *Mounter) Unmount(ctx context.Context, target string) error {
	return fault.Wrap(m.unmount(ctx, target), "unmount", target)
}

func (m *Mounter) unmount(ctx context.Context, target string) error {
	p, err := m.Inspect(ctx, target)
	if err != nil {
		return err
	}
	if !p.IsMount && !p.Corrupted {
		return nil
	}
	err = step.Do(ctx, "mount: unmount "+target, func() error {
		return untilFree(ctx, func() error { return unix.Unmount(target, unix.UMOUNT_NOFOLLOW) })
	})
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fault.New(fault.Busy, "%s is in use: end the programs that have files open there or work in it, and what is mounted below it: %w", target, err)
	case errors.Is(err, unix.EINVAL):
		return m.notMounted(ctx, target, err)
	}
	return fault.New(kindOf(err), "%w", err)
}

const (
	// passing is how long what keeps a mount busy may take to pass by itself: a program that this process is
	// starting holds, from fork(2) to execve(2), all that the process has open, a descriptor of the mount that
	// another goroutine looks at included.
	passing = time.Second
	// firstPause is the pause behind the first try; each is twice as long as the one before.
	firstPause = 2 * time.Millisecond
)

// untilFree tries again for a moment while a mount is busy.
func untilFree(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, passing)
	defer cancel()
	for pause := firstPause; ; pause *= 2 {
		err := try()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// notMounted decides what EINVAL meant: umount2(2) gives it for a path that is no mount point, which is
// what was wanted, and for mounts that it won't take off.
func (m *Mounter) notMounted(ctx context.Context, target string, cause error) error {
	p, err := m.Inspect(ctx, target)
	if err != nil {
		return err
	}
	if p.IsMount {
		return fault.New(fault.Precondition, "the kernel refuses to take this mount off: %w", cause)
	}
	return nil
}
