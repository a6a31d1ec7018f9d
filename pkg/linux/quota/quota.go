// Package quota bounds directories of ext4 and xfs in size: by project quotas, where each file bears a
// project's ID and the file system keeps a limit for each project.
//
// Everything is a system call on an open directory: FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR (ioctl_xfs_fsgetxattr(2))
// for the ID, quotactl_fd(2), Linux 5.14 or later, for limits. Both file systems know the calls that were made for xfs
// (fs/quota/quota.c), so that there is one way for both.
//
// # What a project quota doesn't hold back
//
//   - On ext4 it doesn't bind a process with CAP_SYS_RESOURCE (fs/quota/dquot.c, ignore_hardlimit): root outside of
//     a container, and privileged containers. Containers don't have that capability by default. On xfs it binds all.
//   - The owner of a file, in the first user namespace, may give it another project's ID (fs/ioctl.c,
//     fileattr_set_prepare). The directory that bears the limit belongs to root, what is made in it to whoever makes it.
package quota

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// ID is a project's. 0 is that of all files to which nobody gave one, and has no limit.
type ID uint32

// State says what a file system does with project quotas.
type State int

// The states: what is used is counted where it is at least Accounting, and limited where it is Enforced.
const (
	Off State = iota
	Accounting
	Enforced
)

// Usage is what the files of a project use, and their limit.
type Usage struct {
	// LimitBytes is the hard limit; 0 is none. UsedBytes counts what is allocated, or on xfs promised.
	LimitBytes, UsedBytes int64
	// Inodes that bear the ID.
	Inodes int64
}

// StateOf tells what the file system that an open file lies on does. A file system or kernel without project quotas
// is Off.
func StateOf(f *os.File) (State, error) {
	stat := quotaStatV{version: statVersion}
	err := control(f, xGetStatV, 0, unsafe.Pointer(&stat))
	switch {
	// ENOSYS also of a file system whose quotas are all off.
	case isAny(err, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY, unix.ESRCH, unix.ENOTBLK, unix.ENODEV):
		return Off, nil
	case err != nil:
		return Off, failed("ask about project quotas at", f, err)
	case stat.flags&projectEnforced != 0:
		return Enforced, nil
	case stat.flags&projectAccounted != 0:
		return Accounting, nil
	}
	return Off, nil
}

// Get returns what a project uses on the file system that an open file lies on. A project that nobody ever
// used has neither usage nor limit.
func Get(f *os.File, id ID) (Usage, error) {
	var d diskQuota
	err := control(f, xGetQuota, id, unsafe.Pointer(&d))
	if isAny(err, unix.ENOENT) {
		return Usage{}, nil
	}
	if err != nil {
		return Usage{}, failed(fmt.Sprintf("read the quota of project %d at", id), f, err)
	}
	return Usage{LimitBytes: bytesOf(d.hardBlocks), UsedBytes: bytesOf(d.blocks), Inodes: clamp(d.inodes)}, nil
}

// SetLimit limits a project to that many bytes, rounded down to 1 KiB; 0 lifts the limit. A file system that doesn't
// enforce it takes it all the same: see StateOf. It is as durable as a change of the file system without
// fsync(2).
func SetLimit(ctx context.Context, f *os.File, id ID, bytes int64) error {
	if id == 0 || bytes < 0 {
		return fault.New(fault.Invalid, "limit project %d to %d bytes: project 0 has no limit, and none is negative", id, bytes)
	}
	blocks := uint64(bytes) / kib * blocksPerKiB
	d := diskQuota{version: quotaVersion, flags: projectQuota, fields: softBytes | hardBytes, id: uint32(id), hardBlocks: blocks}
	err := step.Do(ctx, fmt.Sprintf("limit project %d to %d bytes", id, bytes), func() error {
		return control(f, xSetLimit, id, unsafe.Pointer(&d))
	})
	return failed(fmt.Sprintf("limit project %d to %d bytes at", id, bytes), f, err)
}

// Next returns the first project from an ID on that has a usage or a limit; ok is false where there is none.
func Next(f *os.File, from ID) (id ID, ok bool, err error) {
	var d diskQuota
	err = control(f, xGetNextQuota, from, unsafe.Pointer(&d))
	if isAny(err, unix.ENOENT) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, failed(fmt.Sprintf("look for quotas of projects from %d on at", from), f, err)
	}
	return ID(d.id), true, nil
}

// Project returns the project of an open file or directory, and whether what is made in a directory inherits
// it. A file system that knows no projects has 0.
func Project(f *os.File) (id ID, inherits bool, err error) {
	a, err := attributes(f)
	if isAny(err, unix.ENOTTY, unix.EOPNOTSUPP) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, failed("read the project of", f, err)
	}
	return ID(a.project), a.flags&projectInherit != 0, nil
}

// SetProject gives an open directory to a project, and all that is made in it from then on. What is in it
// already stays where it is.
func SetProject(ctx context.Context, dir *os.File, id ID) error {
	what := fmt.Sprintf("give directory to project %d:", id)
	a, err := attributes(dir)
	if err != nil {
		return failed(what, dir, err)
	}
	a.project = uint32(id)
	a.flags |= projectInherit
	if id == 0 {
		a.flags &^= projectInherit
	}
	err = step.Do(ctx, fmt.Sprintf("give directory to project %d", id), func() error {
		return ioctl(dir, setAttributes, unsafe.Pointer(&a))
	})
	return failed(what, dir, err)
}

// failed names what was tried on what, and gives the kernel's refusal a kind.
func failed(op string, f *os.File, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	switch {
	case isAny(err, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOTTY, unix.ESRCH, unix.EPERM, unix.EACCES):
		kind = fault.Precondition
	case isAny(err, unix.EROFS, unix.EIO, unix.ESTALE, unix.EUCLEAN, unix.ENODEV, unix.ENXIO, unix.ESHUTDOWN):
		kind = fault.Unavailable
	case isAny(err, unix.ENOSPC, unix.EDQUOT):
		kind = fault.Exhausted
	}
	return &fault.Error{Kind: kind, Op: op, Object: f.Name(), Err: err}
}

func isAny(err error, errnos ...unix.Errno) bool {
	var no unix.Errno
	if !errors.As(err, &no) {
		return false
	}
	for _, e := range errnos {
		if no == e {
			return true
		}
	}
	return false
}
