package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// BindOptions says how Bind binds.
type BindOptions struct {
	// ReadOnly makes the new mount read-only before anybody can see it. It holds for files and
	// directories only: a device node on a read-only mount can still be written through.
	ReadOnly bool
	// Attributes are further words of mount(8) for the new mount alone: nosuid, nodev, noexec,
	// nosymfollow, noatime, nodiratime, relatime, strictatime. Others are fault.Invalid. A device
	// node can't be opened where nodev holds.
	Attributes []string
	// Private keeps the new mount out of the source's peer group: what is mounted below one of them isn't seen
	// below the other.
	Private bool
	// Verify, if set, judges the source by the descriptor that is bound; its error ends the call.
	Verify func(Point) error
}

// Bind makes source visible at target: a directory on a directory, anything else on a regular file.
// Mounts below source are not bound with it. Neither may be a symbolic link, and nothing may be
// mounted on target yet (fault.Busy). Propagation is that of mount --bind: under a shared mount the
// new mount is shared, and all peers get it.
func (m *Mounter) Bind(ctx context.Context, source, target string, o BindOptions) error {
	return fault.Wrap(m.bind(ctx, source, target, o), "bind", fmt.Sprintf("%s on %s", source, target))
}

func (m *Mounter) bind(ctx context.Context, source, target string, o BindOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	attr, err := o.attr()
	if err != nil {
		return err
	}
	sourceFD, from, err := openSource(source, o.Verify)
	if err != nil {
		return err
	}
	defer closeFD(sourceFD)
	targetFD, to, err := openTarget(target)
	if err != nil {
		return err
	}
	defer closeFD(targetFD)
	if from.IsDir != to.IsDir {
		return fault.New(fault.Precondition, "source is %s and target is %s: make a target of the same kind", from.kind(), to.kind())
	}
	treeFD, err := cloneMount(sourceFD, attr)
	if err != nil {
		return err
	}
	defer closeFD(treeFD)
	return step.Do(ctx, "mount: bind "+source+" on "+target, func() error {
		if err := place(treeFD, targetFD); err != nil {
			return fault.New(kindOf(err), "put the mount onto the target: %w", err)
		}
		return nil
	})
}

// openSource opens what is to be bound and has it judged. The caller closes the descriptor.
func openSource(path string, verify func(Point) error) (int, Point, error) {
	if err := CheckPath(path); err != nil {
		return -1, Point{}, err
	}
	fd, err := openPath(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, Point{}, fault.New(fault.NotFound, "source is not there: %w", err)
	}
	if err != nil {
		return -1, Point{}, fault.New(kindOf(err), "open the source: %w", err)
	}
	p, err := inspectFD(fd)
	switch {
	case err != nil:
		err = fault.New(kindOf(err), "inspect the source: %w", err)
	case p.Mode&fs.ModeSymlink != 0:
		err = fault.New(fault.Precondition, "source is a symbolic link: name what it leads to")
	case verify != nil:
		err = fault.Wrap(verify(p), "", "source is not what is to be bound")
	}
	if err != nil {
		closeFD(fd)
		return -1, Point{}, err
	}
	return fd, p, nil
}

// cloneMount makes a copy of the mount behind fd, rooted there, with attributes changed. Nobody sees
// it, so there is no moment at which it could be written to. It vanishes with its descriptor.
func cloneMount(fd int, attr unix.MountAttr) (int, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, fault.New(kindOf(err), "clone the source's mount: %w", err)
	}
	if attr == (unix.MountAttr{}) {
		return tree, nil
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		closeFD(tree)
		return -1, fault.New(kindOf(err), "set the mount's attributes: %w", err)
	}
	return tree, nil
}
