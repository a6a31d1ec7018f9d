package directory

import (
	"context"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/quota"
)

// allocated is what quotas count. Where there are none it is the volume's size, which is promised to it: to look at
// each file could take hours.
func (b *trees) allocated(root *file.Root, dir string, m meta) (int64, error) {
	data, err := openData(root, dir)
	if err != nil {
		return 0, err
	}
	defer data.Close() //nolint:errcheck // it is only read
	if m.Project == 0 {
		return held(data, m.Bytes)
	}
	u, err := quota.Get(data, quota.ID(m.Project))
	if fault.Is(err, fault.Precondition) { // quotas are off
		return m.Bytes, nil
	}
	return u.UsedBytes, err
}

// held is what a subvolume's qgroup counts, or that many bytes where nothing is counted.
func held(data *os.File, otherwise int64) (int64, error) {
	is, err := btrfs.IsSubvolume(data)
	if err != nil || !is {
		return otherwise, err
	}
	u, err := btrfs.UsageWithNested(data)
	if u.UsedBytes == 0 { // an empty one has its root
		return otherwise, err
	}
	return u.UsedBytes, err
}

// problems looks at the directory from outside: what is in it is its user's matter.
func (b *trees) problems(root *file.Root, dir string, m meta) ([]v1alpha1.Problem, error) {
	data, err := openData(root, dir)
	if err != nil {
		return nil, err
	}
	defer data.Close() //nolint:errcheck // it is only read
	if !limited(m.Quota) || m.Snapshot {
		return nil, nil
	}
	err = enforced(root, data, fault.Precondition)
	if err == nil && m.Project != 0 {
		err = bears(data, m)
	}
	if err == nil {
		err = bindsAll(data)
	}
	if fault.Is(err, fault.Precondition) {
		return []v1alpha1.Problem{{Status: "DEGRADED", Reason: "SizeNotEnforced", Message: err.Error()}}, nil
	}
	return nil, err
}

// bindsAll refuses a subvolume whose limit doesn't bind all that is in it.
func bindsAll(data *os.File) error {
	is, err := btrfs.IsSubvolume(data)
	if err != nil || !is {
		return err
	}
	nested, err := btrfs.Nested(data)
	if err != nil || len(nested) == 0 {
		return err
	}
	return fault.New(fault.Precondition, "%d subvolumes were made in it (%s), which its limit does not bind; have its user remove them",
		len(nested), shorten(nested[0]))
}

// own adds up what quotas count: of subvolumes that share blocks only what each has alone, and of none more than its
// limit, which is what was promised to it. What has no limit isn't counted, and so taken for somebody else's.
func (b *trees) own(ctx context.Context, root *file.Root, all []entry) (int64, error) {
	var sum int64
	seen := map[quota.ID]bool{}
	for _, e := range all {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		data, err := root.OpenDir(e.dir + "/" + dataName)
		if foreign(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes, err := taken(data, seen)
		_ = data.Close() // it was only read
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}

// counted makes quotas count what was written to a sub-directory: btrfs does with its next transaction only.
func counted(root *file.Root, m meta) error {
	if m.Format != v1alpha1.FormatSubdirectory {
		return nil
	}
	fs, err := root.Filesystem()
	if err != nil || fs.Type != "btrfs" {
		return err
	}
	return root.SyncFilesystem()
}

// taken is what quotas count of a directory, each project once.
func taken(data *os.File, seen map[quota.ID]bool) (int64, error) {
	is, err := btrfs.IsSubvolume(data)
	if err != nil {
		return 0, err
	}
	if is {
		u, err := btrfs.UsageOf(data)
		return min(u.OwnBytes, u.LimitBytes), err
	}
	id, _, err := quota.Project(data)
	if err != nil || id < firstProject || id-firstProject >= projects || seen[id] {
		return 0, err
	}
	seen[id] = true
	u, err := quota.Get(data, id)
	if fault.Is(err, fault.Precondition) { // quotas are off
		return 0, nil
	}
	return min(u.UsedBytes, u.LimitBytes), err
}
