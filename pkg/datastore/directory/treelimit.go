package directory

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/quota"
)

// The projects that are ours: far from those that people number by hand. A volume's own is found by hashing its
// UID, so that a call that died is followed by one which finds the same.
const (
	firstProject = 0x44000000
	projects     = 1 << 28
	// tries is how many projects of others are passed over. With one volume for each ten thousand projects, a second
	// try is rare.
	tries = 64
)

// project is the volume's at the nth try.
func project(uid string, n int) quota.ID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", uid, n))
	return firstProject + quota.ID(binary.BigEndian.Uint32(sum[:])%projects)
}

// enforced refuses, with an error of that kind, a file system that doesn't limit directories.
func enforced(root *file.Root, dir *os.File, kind fault.Kind) error {
	fs, err := root.Filesystem()
	if err != nil {
		return err
	}
	how := "it can limit none"
	switch fs.Type {
	case "btrfs":
		q, err := btrfs.QuotasOf(dir)
		if err != nil || q.Enabled {
			return err
		}
		how = fmt.Sprintf("enable its quotas (btrfs quota enable %s)", root.Path())
	case "ext4", "xfs":
		state, err := quota.StateOf(dir)
		if err != nil || state == quota.Enforced {
			return err
		}
		how = "mount it with option prjquota"
		if fs.Type == "ext4" {
			how += ", which takes features project and quota (tune2fs -O project,quota while it is not mounted)"
		}
	}
	return fault.New(kind, "the file system (%s) of %s doesn't enforce the size of sub-directories: %s, or use quota: none, or format: image",
		fs.Type, root.Path(), how)
}

// limit limits a new directory that nobody can write to yet, unless its size needn't be enforced.
func (b *trees) limit(ctx context.Context, root *file.Root, data *os.File, m *meta) error {
	is, err := btrfs.IsSubvolume(data)
	switch {
	case err != nil:
		return err
	case is:
		return limitSubvolume(ctx, data, m)
	case !limited(m.Quota):
		return nil
	}
	for n := range tries {
		id := project(m.UID, n)
		took, err := take(ctx, data, id)
		if err != nil {
			return err
		}
		if took {
			m.Project = uint32(id)
			return quota.SetLimit(ctx, data, id, m.Bytes)
		}
	}
	return fault.New(fault.Exhausted, "%d projects of the file system of %s that the volume could have are others'; try again", tries, root.Path())
}

// limitSubvolume gives a new subvolume the limit that it is to have: a copy has that of what it was made from.
func limitSubvolume(ctx context.Context, data *os.File, m *meta) error {
	if limited(m.Quota) {
		return btrfs.SetLimit(ctx, data, m.Bytes)
	}
	u, err := btrfs.UsageOf(data)
	if err != nil || u.LimitBytes == 0 {
		return err
	}
	return btrfs.SetLimit(ctx, data, 0)
}

// take gives a new directory to a project that nobody has. Of two calls that chose the same at once, each sees
// that the project has a directory besides its own, and neither keeps it.
func take(ctx context.Context, data *os.File, id quota.ID) (bool, error) {
	u, err := quota.Get(data, id)
	if err != nil || u != (quota.Usage{}) {
		return false, err
	}
	if err := quota.SetProject(ctx, data, id); err != nil {
		return false, err
	}
	u, err = quota.Get(data, id)
	return u.Inodes == 1 && u.LimitBytes == 0, err
}

// setLimit limits a directory that has a limit to another number of bytes.
func setLimit(ctx context.Context, root *file.Root, data *os.File, m meta, bytes int64) error {
	if err := enforced(root, data, fault.Unavailable); err != nil {
		return err
	}
	if is, err := btrfs.IsSubvolume(data); is || err != nil {
		if err != nil {
			return err
		}
		return btrfs.SetLimit(ctx, data, bytes)
	}
	if err := bears(data, m); err != nil {
		return err
	}
	return quota.SetLimit(ctx, data, quota.ID(m.Project), bytes)
}

// bears refuses a directory that isn't in the project that its mark names.
func bears(data *os.File, m meta) error {
	id, inherits, err := quota.Project(data)
	if err != nil {
		return err
	}
	if m.Project == 0 || uint32(id) != m.Project || !inherits {
		return fault.New(fault.Precondition, "%s is in project %d (inherited: %t), its mark names %d, so its size isn't enforced; was it copied there? "+
			"Give it and all that is in it that project (chattr -R +P -p %d %s)", data.Name(), id, inherits, m.Project, m.Project, data.Name())
	}
	return nil
}

// uphold makes sure that a directory's size is enforced as its mark says. A limit that a crash, a restore or somebody
// changed is set again.
func uphold(ctx context.Context, root *file.Root, data *os.File, m meta) error {
	var limit int64
	is, err := btrfs.IsSubvolume(data)
	switch {
	case err != nil:
		return err
	case is:
		u, err := btrfs.UsageOf(data)
		if err != nil {
			return err
		}
		limit = u.LimitBytes
	default:
		u, err := quota.Get(data, quota.ID(m.Project))
		if err != nil {
			return fault.New(fault.Unavailable, "its quota can't be read; is its file system mounted with prjquota still? %w", err)
		}
		limit = u.LimitBytes
	}
	if limit != m.Bytes {
		return setLimit(ctx, root, data, m, m.Bytes)
	}
	if is {
		return enforced(root, data, fault.Unavailable)
	}
	return joinFirst(enforced(root, data, fault.Unavailable), func() error { return bears(data, m) })
}

// joinFirst returns the first error.
func joinFirst(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// forsake lifts the limit of a directory that is out of use. Its project is the one that its mark names; that of a
// directory without a mark, which nobody ever used, is its own only where it is its only one.
func forsake(ctx context.Context, root *file.Root, dir string, data *os.File) error {
	m, err := readMark(root, dir)
	id := quota.ID(m.Project)
	if err != nil {
		if !foreign(err) {
			return err
		}
		if id, _, err = quota.Project(data); err != nil {
			return err
		}
		if id < firstProject || id-firstProject >= projects {
			return nil
		}
	}
	if id == 0 {
		return nil
	}
	u, err := quota.Get(data, id)
	if fault.Is(err, fault.Precondition) || u.LimitBytes == 0 {
		return nil // quotas are off, or it is lifted already
	}
	if err != nil {
		return err
	}
	if m.Project == 0 && u.Inodes > 1 {
		return nil
	}
	return quota.SetLimit(ctx, data, id, 0)
}

// limitFindings say where a limit doesn't hold for everybody.
func limitFindings(root *file.Root, fs file.Filesystem) ([]v1alpha1.Finding, error) {
	dir, err := root.OpenDir(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // it is only read
	switch fs.Type {
	case "ext4":
		id, ok, err := quota.Next(dir, firstProject)
		if err != nil || !ok || id-firstProject >= projects {
			return nil, nilUnlessFails(err)
		}
		return []v1alpha1.Finding{{Reason: "QuotaSparesPrivileged", Message: fmt.Sprintf(
			"the sizes of sub-directories in %s don't bind privileged containers: ext4 lets whoever has CAP_SYS_RESOURCE write beyond a quota; "+
				"use xfs or btrfs, or format: image, where that matters", root.Path())}}, nil
	case "btrfs":
		q, err := btrfs.QuotasOf(dir)
		if err != nil || !q.Enabled || !q.Inconsistent {
			return nil, err
		}
		return []v1alpha1.Finding{{Reason: "QuotaInconsistent", Message: fmt.Sprintf(
			"btrfs says that its quotas in %s are inconsistent, so that sub-directories may be limited too early or too late; "+
				"count anew (btrfs quota rescan %s), which ends by itself", root.Path(), root.Path())}}, nil
	}
	return nil, nil
}

// nilUnlessFails drops the error of a file system without quotas.
func nilUnlessFails(err error) error {
	if fault.Is(err, fault.Precondition) {
		return nil
	}
	return err
}
