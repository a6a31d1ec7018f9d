package mount

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Unmount takes off the topmost mount of target and no other. A target that is not there or is no
// mount point is success. A mount in use is fault.Busy. It works on a corrupted mount too.
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
		return unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
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
