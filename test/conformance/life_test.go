package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// kinds are the volumes that each life test goes through.
func (b bench) kinds() map[string]harness.Claim {
	all := map[string]harness.Claim{}
	for _, provisioning := range b.Can().Provisioning {
		for fs := range rows.Filesystems() {
			c := claim(fs)
			c.Parameters = in(pool, "provisioning", provisioning)
			all[fs+", "+provisioning] = c
		}
		c := blockClaim()
		c.Parameters = in(pool, "provisioning", provisioning)
		all["raw block, "+provisioning] = c
	}
	return all
}

// someKinds are some of them, others on each row.
func (b bench) someKinds() map[string]harness.Claim {
	all := b.kinds()
	first, last := b.Can().Provisioning[0], b.Can().Provisioning[len(b.Can().Provisioning)-1]
	some := map[string]harness.Claim{}
	for _, name := range []string{b.filesystem(0) + ", " + first, b.filesystem(1) + ", " + last, "raw block, " + first} {
		some[name] = all[name]
	}
	return some
}

// A life: made, used, grown while in use, detached, grown while detached, used again, deleted. What was written is there at
// each turn, and in the end the machine looks as if nothing had been.
func TestAVolumeLivesAndLeavesNothingBehind(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for name, c := range b.kinds() {
			t.Run(name, func(t *testing.T) { live(t, b, c) })
		}
	})
}

func live(t *testing.T, b bench, c harness.Claim) {
	ctx := t.Context()
	v := b.Volume(t, c)
	camera := b.camera(filepath.Dir(v.Staging))
	before := photograph(t, camera)

	must(t, v.Up(ctx))
	if v.Size < c.Bytes {
		t.Errorf("made with %d bytes, asked for %d", v.Size, c.Bytes)
	}
	if len(v.Answer.GetVolumeContext()) > 0 {
		t.Errorf("the volume context says %v; where a volume lies stands in its record", v.Answer.GetVolumeContext())
	}
	first := harness.Data{Seed: "first", Bytes: 5*mib + 7}
	must(t, store(v, first, 0))
	must(t, holds(v, first, 0))

	// Online.
	grow(t, v, v.Size+100*mib, true)
	must(t, holds(v, first, 0))
	second := harness.Data{Seed: "second", Bytes: 3 * mib}
	must(t, store(v, second, v.Size-4*mib))
	seen, err := visible(v)
	must(t, err)
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))
	must(t, v.Detach(ctx))

	// Detached.
	was := v.Size
	grow(t, v, was+100*mib, false)
	must(t, v.Attach(ctx))
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	grown(t, v, seen)
	must(t, holds(v, first, 0))
	must(t, holds(v, second, was-4*mib))
	stats(t, v)

	must(t, v.Down(ctx))
	if _, err := os.Lstat(v.Target); !os.IsNotExist(err) {
		t.Errorf("the target path is still there: %v", err)
	}
	must(t, camera.Settles(ctx, before, settleLimit))
}

// store writes data into the published volume: a file, or at an offset of the device.
func store(v *harness.Volume, d harness.Data, offset int64) error {
	if v.Block {
		return d.WriteDevice(v.Target, offset)
	}
	return d.WriteFile(filepath.Join(v.Target, d.Seed))
}

// holds checks that the data is in the published volume.
func holds(v *harness.Volume, d harness.Data, offset int64) error {
	if v.Block {
		return d.CheckDevice(v.Target, offset)
	}
	return d.CheckFile(filepath.Join(v.Target, d.Seed))
}

// visible is the size in bytes that the pod sees.
func visible(v *harness.Volume) (int64, error) {
	if v.Block {
		return harness.DeviceBytes(v.Target)
	}
	var s unix.Statfs_t
	err := unix.Statfs(v.Target, &s)
	return int64(s.Blocks) * s.Bsize, err
}

// grow expands a volume as external-resizer and the kubelet do.
func grow(t *testing.T, v *harness.Volume, bytes int64, published bool) {
	t.Helper()
	var was int64
	if published {
		var err error
		was, err = visible(v)
		must(t, err)
	}
	nodeToo, err := v.Expand(t.Context(), bytes)
	must(t, err)
	if !published {
		return
	}
	if !v.Block && !harness.GrowsMounted(v.Filesystem) {
		refused(t, "growing what this machine can't", v.NodeExpand(t.Context(), bytes), anyRefusal(), "CAP_SYS_RESOURCE")
		return
	}
	if nodeToo {
		must(t, v.NodeExpand(t.Context(), bytes))
	}
	grown(t, v, was)
}

// grown checks that the pod sees some 100 MiB more than before.
func grown(t *testing.T, v *harness.Volume, was int64) {
	t.Helper()
	now, err := visible(v)
	must(t, err)
	if now-was < 80*mib || v.Block && now < v.Size {
		t.Errorf("grown to %d bytes the pod sees %d, before it saw %d", v.Size, now, was)
	}
}

// anyRefusal are the codes of what can't be done now.
func anyRefusal() []codes.Code {
	return code(codes.FailedPrecondition, codes.Unavailable, codes.Internal, codes.InvalidArgument)
}

// stats checks NodeGetVolumeStats against what the kernel says.
func stats(t *testing.T, v *harness.Volume) {
	t.Helper()
	answer, err := v.Client.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{
		VolumeId: v.ID, VolumePath: v.Target, StagingTargetPath: v.Staging,
	})
	must(t, err)
	got := map[csi.VolumeUsage_Unit]*csi.VolumeUsage{}
	for _, u := range answer.GetUsage() {
		got[u.GetUnit()] = u
	}
	size, err := visible(v)
	must(t, err)
	if total := got[csi.VolumeUsage_BYTES].GetTotal(); total != size {
		t.Errorf("stats say %d bytes in all, the kernel %d", total, size)
	}
	if v.Block {
		return
	}
	var s unix.Statfs_t
	must(t, unix.Statfs(v.Target, &s))
	if free := got[csi.VolumeUsage_BYTES].GetAvailable(); free != int64(s.Bavail)*s.Bsize {
		t.Errorf("stats say %d bytes free, the kernel %d", free, int64(s.Bavail)*s.Bsize)
	}
	if used := got[csi.VolumeUsage_BYTES].GetUsed(); used != int64(s.Blocks-s.Bfree)*s.Bsize {
		t.Errorf("stats say %d bytes used, the kernel %d", used, int64(s.Blocks-s.Bfree)*s.Bsize)
	}
	inodes := got[csi.VolumeUsage_INODES]
	if v.Filesystem != "btrfs" && (inodes.GetTotal() != int64(s.Files) || inodes.GetAvailable() != int64(s.Ffree)) {
		t.Errorf("stats say %v inodes, the kernel %d of %d free", inodes, s.Ffree, s.Files) // btrfs has no number of them
	}
}

func TestAThickVolumeKeepsItsSpaceAndAThinOneGivesItBack(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for _, fs := range []string{"ext4", "xfs", "btrfs", ""} {
			for _, provisioning := range b.Can().Provisioning {
				name := fmt.Sprintf("%s on a %s volume", fs, provisioning)
				t.Run(name, func(t *testing.T) { space(t, b, fs, provisioning) })
			}
		}
	})
}

func space(t *testing.T, b bench, fs, provisioning string) {
	ctx := t.Context()
	c := blockClaim()
	if fs != "" {
		c = claim(fs)
	}
	c.Parameters = in(pool, "provisioning", provisioning)
	v := b.Volume(t, c)
	must(t, v.Create(ctx))
	allocated := func(when string) int64 {
		t.Helper()
		n, err := b.Allocated(v.ID)
		must(t, err)
		if provisioning == "thick" && n < v.Size {
			t.Errorf("%s %d of %d bytes are allocated: a thick volume must keep all", when, n, v.Size)
		}
		return n
	}
	if n := allocated("after the format"); provisioning == "thin" && n > v.Size/2 {
		t.Errorf("a new thin volume of %d bytes takes %d", v.Size, n)
	}
	must(t, v.Attach(ctx))
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	blank := allocated("once mounted")
	const bytes = 12 * mib
	data := harness.Data{Seed: "space", Bytes: bytes}
	must(t, store(v, data, 0))
	full := allocated("after writing")
	if provisioning == "thin" && full < blank+bytes/2 {
		t.Errorf("%d bytes are allocated after writing %d, %d before: does Allocated see them?", full, bytes, blank)
	}
	must(t, discardContent(v))
	// xfs frees the blocks of a removed file some time later (inode garbage collection), and trims what is free.
	must(t, harness.Eventually(ctx, time.Minute, func() error {
		giveBack(v, bytes)
		if n := allocated("after deleting and trimming"); provisioning == "thin" && n > full-bytes/2 {
			return fmt.Errorf("after deleting %d bytes %d are still allocated, %d before", bytes, n, full)
		}
		return nil
	}))
	must(t, v.Down(ctx))
}

// discardContent removes what was written to a file system.
func discardContent(v *harness.Volume) error {
	if v.Block {
		return nil
	}
	if err := os.Remove(filepath.Join(v.Target, "space")); err != nil {
		return err
	}
	return harness.Run("sync", "--file-system", v.Target)
}

// giveBack trims: a file system by FITRIM, a device by BLKDISCARD. A volume that takes no discard says so.
func giveBack(v *harness.Volume, bytes int64) {
	if v.Block {
		_ = harness.Run("blkdiscard", "--offset", "0", "--length", fmt.Sprint(bytes), v.Target)
		return
	}
	_ = harness.Run("fstrim", v.Target)
}
