package mount

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Mount mounts the file system of type fsType that lies on source (a device) onto target, which must
// be an existing directory that nothing is mounted on.
//
// options are mount(8)'s words: what any mount understands (ro, nosuid, nodev, noexec, noatime, ...)
// is applied to the mount; "defaults", "nofail" and "_netdev" mean nothing here; the rest is handed to
// the file system one by one. What the file system doesn't know is fault.Invalid, which includes what
// only mount(8) does (bind, remount, loop, ...).
//
// Errors name source, target, type and options and carry the kernel's words. fault.Busy: source or
// target is in use; fault.Precondition: source bears no such file system, a damaged one, or is
// read-only, or the kernel lacks fsType; fault.NotFound: source or target is not there;
// fault.Unavailable: the device can't be read. What is busy is tried again for a second.
func (m *Mounter) Mount(ctx context.Context, source, target, fsType string, options []string) error {
	err := m.mount(ctx, source, target, fsType, options)
	return fault.Wrap(err, "mount", fmt.Sprintf("%s (type %s, options %q) on %s", source, fsType, strings.Join(options, ","), target))
}

func (m *Mounter) mount(ctx context.Context, source, target, fsType string, options []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if source == "" || strings.ContainsRune(source, 0) {
		return fault.New(fault.Invalid, "source %q is no device", source)
	}
	w, err := parseWords(options)
	if err != nil {
		return err
	}
	targetFD, p, err := openTarget(target)
	if err != nil {
		return err
	}
	defer closeFD(targetFD)
	if !p.IsDir {
		return fault.New(fault.Precondition, "target %s is %s: a directory is needed", target, p.kind())
	}
	var mountFD int
	err = step.Do(ctx, "mount: read the file system on "+source, func() error {
		// A program that starts may hold what was just unmounted for a moment longer: see passing.
		return untilFree(ctx, func() (err error) {
			mountFD, err = createMount(source, fsType, w)
			return err
		})
	})
	if err != nil {
		return err
	}
	defer closeFD(mountFD)
	return step.Do(ctx, "mount: put "+source+" on "+target, func() error {
		if err := place(mountFD, targetFD); err != nil {
			return fault.New(kindOf(err), "put the mount onto the target: %w", err)
		}
		return nil
	})
}

// createMount makes a mount that is nowhere to be seen yet. It vanishes with its descriptor.
func createMount(source, fsType string, w words) (int, error) {
	fd, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return -1, fault.New(fault.Precondition, "file system type %s is unknown to this kernel: load its module (modprobe %s) or use another type", fsType, fsType)
	}
	if err != nil {
		return -1, fault.New(fault.Internal, "fsopen %q: %w", fsType, err)
	}
	defer closeFD(fd)
	if err := configure(fd, source, w); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, explainCreate(err, source, fsType, contextLog(fd))
	}
	mountFD, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, int(w.set))
	if err != nil {
		return -1, fault.New(kindOf(err), "make a mount of it: %s", withLog(err, contextLog(fd)))
	}
	return mountFD, nil
}

// configure hands source and options to a file system context.
func configure(fd int, source string, w words) error {
	if err := unix.FsconfigSetString(fd, "source", source); err != nil {
		return fault.New(fault.Invalid, "source %q is refused: %s", source, withLog(err, contextLog(fd)))
	}
	for _, o := range w.super {
		if err := unix.FsconfigSetFlag(fd, o); err != nil {
			return fault.New(fault.Invalid, "option %q is refused: %s", o, withLog(err, contextLog(fd)))
		}
	}
	for _, o := range w.data {
		key, value, hasValue := strings.Cut(o, "=")
		var err error
		if hasValue {
			err = unix.FsconfigSetString(fd, key, value)
		} else {
			err = unix.FsconfigSetFlag(fd, key)
		}
		if err != nil {
			return fault.New(fault.Invalid, "option %q is refused: %s", o, withLog(err, contextLog(fd)))
		}
	}
	return nil
}

// explainCreate says in words what the kernel means by refusing to mount.
func explainCreate(err error, source, fsType, log string) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EBUSY):
		hint = "source is in use: mounted with other options, or held by a program or another device"
	case errors.Is(err, unix.ENOENT):
		hint = "source is not there"
	case errors.Is(err, unix.ENOTBLK):
		hint = "source is no block device"
	case errors.Is(err, unix.ENXIO):
		hint = "no device answers behind source"
	case errors.Is(err, unix.EIO):
		hint = "source can't be read, or its file system needs a repair"
	case errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG):
		hint = "the file system is damaged: repair it before it is mounted"
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		hint = "source is read-only: mount it with ro, or make it writable where a log must be replayed"
	case errors.Is(err, unix.EINVAL):
		hint = "no valid " + fsType + " lies there, or it refuses these options: the kernel's log says more"
	default:
		return fault.New(kindOf(err), "%s", withLog(err, log))
	}
	return &fault.Error{Kind: kindOf(err), Object: hint, Err: withLog(err, log)}
}

// withLog adds the file system's own words to an error number.
func withLog(err error, log string) error {
	if log == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, log)
}

// contextLog takes the messages that the kernel left in a file system context: one per read, each
// with a letter for its severity in front.
func contextLog(fd int) string {
	var all []string
	buf := make([]byte, 4096)
	for len(all) < 8 { // the kernel keeps no more
		n, err := unix.Read(fd, buf)
		if err != nil || n <= 0 {
			break
		}
		line := strings.TrimSpace(string(buf[:n]))
		if len(line) > 2 && line[1] == ' ' {
			line = line[2:]
		}
		all = append(all, line)
	}
	return strings.Join(all, "; ")
}
