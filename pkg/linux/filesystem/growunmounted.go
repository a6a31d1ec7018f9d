package filesystem

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// GrowsMounted tells whether this process may grow a mounted file system of that type. ext4 allows it to
// those with CAP_SYS_RESOURCE only (ext4_resize_begin, fs/ext4/resize.c), which the default set of a
// container lacks; xfs and btrfs ask for what mounting asks for too.
func GrowsMounted(t Type) (bool, error) {
	if t != Ext4 {
		return true, nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 32 capabilities each (capget(2))
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("read the capabilities of this process: %w", err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0, nil
}

// GrowUnmounted grows an ext4 that isn't mounted to the size of its device, where it can't be grown
// mounted (GrowsMounted). resize2fs wants it checked in full first, which takes its time on a large one.
// Called again, after a crash too, it goes on or changes nothing: what a resize2fs that was killed left half
// moved is put right first (finishGrowth). Damage is fault.Precondition and names the
// command that repairs it. Other types are fault.Invalid: they grow mounted only.
func GrowUnmounted(ctx context.Context, run *command.Runner, device string, t Type) error {
	if t != Ext4 {
		return fault.New(fault.Invalid, "%s on %s grows only while it is mounted", t, device)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
	}
	if err := runCheck(ctx, run, device, "-f"); err != nil {
		return fault.Wrap(err, "grow ext4 on", device)
	}
	_, err := run.Run(ctx, command.Cmd{Tool: "resize2fs", Args: []string{device}, Changes: "grow ext4 on " + device})
	return fault.Wrap(err, "grow ext4 on", device)
}

// finishGrowth repairs an ext4 whose growth was interrupted, and tells whether it was such a one. e2fsck -p
// leaves that alone: the resize inode and the block bitmaps may be half written.
//
// resize2fs marks the superblock as having errors before it changes anything, and takes the mark off when it
// writes the new size, last of all. The kernel, when it finds errors, counts them as well
// (Documentation/filesystems/ext4/super.rst, s_error_count). So an error mark without a count, on a device
// larger than the file system, is the mark of resize2fs. What e2fsck -y may decide wrongly is what belongs to
// whom; growth adds groups at the end and moves nothing that a file owns, so it decides of its own tables only.
func finishGrowth(ctx context.Context, run *command.Runner, device string) (bool, error) {
	s, bytes, err := readExt(ctx, run, device)
	if err != nil {
		return false, err
	}
	if s.state&extStateErrors == 0 || s.errorCount != 0 || !NeedsGrow(s.signature(), bytes) {
		return false, nil
	}
	_, err = run.Run(ctx, command.Cmd{
		Tool: "e2fsck", Args: []string{"-f", "-y", device}, Combined: true,
		Changes: "repair ext4 on " + device + ", whose growth was interrupted", OKCodes: []int{e2fsckCorrected},
	})
	if code, exited := command.ExitCode(err); exited && code == e2fsckCorrected {
		err = nil
	}
	return true, fault.Wrap(err, "finish an interrupted growth of ext4 on", device)
}
