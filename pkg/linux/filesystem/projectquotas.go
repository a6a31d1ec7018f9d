package filesystem

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// HasProjectQuotas tells whether an ext4 that isn't mounted was made with Format.ProjectQuotas, or turned into such a one.
func HasProjectQuotas(ctx context.Context, run *command.Runner, device string) (bool, error) {
	s, _, err := readExt(ctx, run, device)
	return err == nil && s.roCompat&(extROCompatQuota|extROCompatProject) != 0, fault.Wrap(err, "read", device)
}

// DropProjectQuotas takes out of an ext4 that isn't mounted what a kernel without quotas can't have. A Linux that was
// built without CONFIG_QFMT_V2 mounts no ext4 that has the feature (fs/ext4/super.c, ext4_feature_set_ok).
func DropProjectQuotas(ctx context.Context, run *command.Runner, device string) error {
	_, err := run.Run(ctx, command.Cmd{ // tune2fs(8)
		Tool: "tune2fs", Args: []string{"-O", "^quota,^project", device}, Combined: true,
		Changes: "drop the project quotas of ext4 on " + device,
	})
	return fault.Wrap(err, "drop the project quotas of ext4 on", device)
}
