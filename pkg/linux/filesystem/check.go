package filesystem

import (
	"context"
	"io"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// checkTimeout bounds a check whose context has no deadline: a large file system that is marked as
// damaged takes long, and a check that was killed begins again from the start.
const checkTimeout = time.Hour

// The exit codes of e2fsck (e2fsck(8)), of which it returns the sum.
const (
	e2fsckCorrected = 1
	e2fsckLeft      = 4 // damage that it doesn't repair unasked
)

// Check brings a file system that isn't mounted into a state in which it may be, and repairs only what
// is safe to repair unasked.
//
// ext4 gets `e2fsck -p`, unless its superblock is whole and says that it was unmounted cleanly, with no
// error, orphan or journal left: e2fsck -p would look at the same marks and leave, and what it checks
// beside them (group descriptors and their checksums) the kernel checks when it mounts. xfs and btrfs
// replay their logs when they are mounted, so nothing is run for them; xfs_repair without that would
// destroy what is still in the log.
//
// Damage is fault.Precondition and names the device and the command that repairs it. So is a device that
// bears another file system. A context without a deadline gets an hour.
func Check(ctx context.Context, run *command.Runner, device string, t Type) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
	}
	return fault.Wrap(check(ctx, run, device, t), "check "+string(t)+" on", device)
}

func check(ctx context.Context, run *command.Runner, device string, t Type) error {
	sig, err := readSignature(ctx, run, device)
	if err != nil {
		return err
	}
	if sig.Type != string(t) {
		return fault.New(fault.Precondition, "it bears %s; nothing was changed", sig)
	}
	if t != Ext4 {
		return nil
	}
	clean, err := extClean(ctx, run, device)
	if err != nil || clean {
		return err
	}
	return runCheck(ctx, run, device)
}

// runCheck runs e2fsck -p, with more options if any, and understands what it says.
func runCheck(ctx context.Context, run *command.Runner, device string, options ...string) error {
	_, err := run.Run(ctx, command.Cmd{
		Tool: "e2fsck", Args: append(append([]string{"-p"}, options...), device), Combined: true,
		Changes: "check and repair ext4 on " + device, OKCodes: []int{e2fsckCorrected},
	})
	code, exited := command.ExitCode(err)
	switch {
	case err == nil || exited && code == e2fsckCorrected:
		return nil
	case !exited:
		return err
	case code&^e2fsckCorrected == e2fsckLeft:
		if finished, err := finishGrowth(ctx, run, device); finished || err != nil {
			return err
		}
		return fault.New(fault.Precondition, "it is damaged beyond what is repaired unasked, and is not mounted; run `e2fsck -f %s` "+
			"(after a copy was made, if the data matters): %w", device, err)
	}
	// 8, an operational error, covers much: a superblock beyond recognition, a device in use, a failed
	// read. 2 would mean that the file system is mounted as the machine's root.
	return fault.New(fault.Precondition, "it can't be checked, and is not mounted; look with `e2fsck -fn %s`, repair with `e2fsck -f %s`: %w",
		device, device, err)
}

// extClean reads whether the superblock of an ext4 says that there is nothing to do.
func extClean(ctx context.Context, run *command.Runner, device string) (bool, error) {
	s, _, err := readExt(ctx, run, device)
	return err == nil && s.clean(), err
}

// readExt reads the superblock of an ext4, and the size of its device in bytes. Nothing is found in one that
// isn't recognised.
func readExt(ctx context.Context, run *command.Runner, device string) (extSuperblock, int64, error) {
	type found struct {
		extSuperblock
		bytes int64
	}
	got, err := command.Await(ctx, run, "read "+device, func(context.Context) (found, error) {
		f, err := open(device)
		if err != nil {
			return found{}, err
		}
		b, err := readRegion(f, extOffset, extSize)
		if err != nil {
			return found{}, closed(f, err)
		}
		bytes, err := f.Seek(0, io.SeekEnd)
		if err = closed(f, err); err != nil {
			return found{}, err
		}
		s, _ := parseExt(b)
		return found{s, bytes}, nil
	})
	return got.extSuperblock, got.bytes, err
}
