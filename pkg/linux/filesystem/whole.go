package filesystem

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// Whole looks at all of a file system that isn't mounted, and changes nothing: damage, and what a mkfs that was killed left
// undone, is fault.Precondition. It reads all metadata, so it is for new file systems; Check is for others. An
// xfs whose log isn't empty counts as damaged.
func Whole(ctx context.Context, run *command.Runner, device string, t Type) error {
	return fault.Wrap(whole(ctx, run, device, t), "look through "+string(t)+" on", device)
}

func whole(ctx context.Context, run *command.Runner, device string, t Type) error {
	sig, err := readSignature(ctx, run, device)
	if err != nil {
		return err
	}
	if sig.Type != string(t) {
		return fault.New(fault.Precondition, "it bears %s", sig)
	}
	// e2fsck(8), xfs_repair(8), btrfs-check(8): none of them writes when asked like this, and each ends with 0 only where
	// nothing is wrong.
	cmd := map[Type]command.Cmd{
		Ext4:  {Tool: "e2fsck", Args: []string{"-f", "-n", device}},
		XFS:   {Tool: "xfs_repair", Args: []string{"-n", device}},
		Btrfs: {Tool: "btrfs", Args: []string{"check", "--readonly", device}},
	}[t]
	cmd.Combined = true
	_, err = run.Run(ctx, cmd)
	if _, exited := command.ExitCode(err); err != nil && exited {
		return fault.New(fault.Precondition, "it isn't whole: %w", err)
	}
	return err
}
