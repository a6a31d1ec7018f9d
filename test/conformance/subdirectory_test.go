package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// subdirectory is a claim for a directory whose size nobody enforces.
func subdirectory() harness.Claim {
	return harness.Claim{Bytes: 16 * mib, Parameters: in(pool, "format", "subdirectory", "quota", "none")}
}

func makeSubdirectories(c rows.Can) bool { return c.Subdirectories }

func TestASubdirectorysLife(t *testing.T) {
	onBenchesThat(t, makeSubdirectories, func(t *testing.T, b bench) {
		ctx := t.Context()
		camera := b.camera()
		before := photograph(t, camera)
		d := harness.Data{Seed: "tree", Bytes: mib}
		v := inUse(t, b, subdirectory(), d)
		must(t, inSeries(ctx, v.Create, v.Attach, v.Stage, v.Publish)) // each again
		info, err := os.Stat(v.Target)
		must(t, err)
		if info.Mode().Perm() != 0o755 {
			t.Errorf("the root of the volume has mode %v", info.Mode())
		}
		if err := mountedWith(v.Target, unix.ST_NOSUID|unix.ST_NODEV); err != nil {
			t.Error(err)
		}
		must(t, b.Crash(ctx))
		must(t, holds(v, d, 0))
		_, err = v.Expand(ctx, 64*mib)
		must(t, err)
		must(t, inSeries(ctx, v.Unpublish, v.Unstage))
		if entries, err := os.ReadDir(v.Staging); err != nil || len(entries) > 0 {
			t.Errorf("the staging path holds %v after unstage (%v)", entries, err)
		}
		must(t, inSeries(ctx, v.Stage, v.Publish))
		must(t, holds(v, d, 0))
		refused(t, "delete while published", v.Delete(ctx), code(codes.FailedPrecondition))
		must(t, deepTree(v.Target))
		must(t, v.Down(ctx))
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}

// deepTree makes what a removal must get through: depth, links to the outside, a file that nobody may read.
func deepTree(at string) error {
	deep := at
	for range 60 {
		deep = filepath.Join(deep, "a directory with a rather long name, to be sure")
		if err := os.Mkdir(deep, 0o700); err != nil {
			return err
		}
	}
	if err := os.Symlink("/", filepath.Join(deep, "root")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(at, "secret"), []byte("x"), 0); err != nil {
		return err
	}
	return unix.Mkfifo(filepath.Join(at, "pipe"), 0o600)
}

func mountedWith(path string, flags int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return err
	}
	if s.Flags&flags != flags {
		return fmt.Errorf("%s is mounted with flags %#x, without %#x", path, s.Flags, flags)
	}
	return nil
}

func TestASubdirectoryThatCantBeIsRefused(t *testing.T) {
	onBenchesThat(t, makeSubdirectories, func(t *testing.T, b bench) {
		ctx := t.Context()
		camera := b.camera()
		before := photograph(t, camera)
		for name, test := range map[string]struct {
			alter func(*harness.Claim)
			says  []string
		}{
			"as a block device":           {func(c *harness.Claim) { c.Block = true }, []string{"ubdirectory"}},
			"with a file system":          {func(c *harness.Claim) { c.Filesystem = "xfs" }, nil},
			"thick":                       {func(c *harness.Claim) { c.Parameters["provisioning"] = "thick" }, nil},
			"with mkfs options":           {func(c *harness.Claim) { c.Parameters["mkfsOptions"] = "-m 0" }, []string{"mkfsOptions"}},
			"without quota":               {func(c *harness.Claim) { delete(c.Parameters, "quota") }, []string{"quota", "none"}},
			"with an unknown quota":       {func(c *harness.Claim) { c.Parameters["quota"] = "some" }, []string{"required", "none"}},
			"that many nodes write":       {func(c *harness.Claim) { c.Mode = manyWriters }, []string{"MULTI_NODE"}},
			"in an image's mount options": {func(c *harness.Claim) { c.MountFlags = []string{"data=journal"} }, []string{"data"}},
		} {
			c := subdirectory()
			test.alter(&c)
			refused(t, "a sub-directory "+name, b.Volume(t, c).Create(ctx), code(codes.InvalidArgument), test.says...)
		}
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}

// TestASubdirectoryIsCopiedOrRefused: where the pool can't copy a tree at one instant, it says what can.
func TestASubdirectoryIsCopiedOrRefused(t *testing.T) {
	onBenchesThat(t, makeSubdirectories, func(t *testing.T, b bench) {
		ctx := t.Context()
		camera := b.camera()
		before := photograph(t, camera)
		d := harness.Data{Seed: "tree", Bytes: mib}
		v := inUse(t, b, subdirectory(), d)
		if !b.Can().CopiesTrees {
			refused(t, "a snapshot of a sub-directory", v.Snapshot().Create(ctx), code(codes.InvalidArgument, codes.FailedPrecondition), "btrfs")
			c := subdirectory()
			c.From = v.Source()
			refused(t, "a clone of a sub-directory", b.Volume(t, c).Create(ctx), code(codes.InvalidArgument, codes.FailedPrecondition), "btrfs")
			must(t, v.Down(ctx))
			return
		}
		s := snapshotOf(t, v)
		must(t, store(v, harness.Data{Seed: "later", Bytes: mib}, 0))
		restored := copyOf(t, b, subdirectory(), s.Source(), 2*v.Size)
		must(t, holds(restored, d, 0))
		if err := holds(restored, harness.Data{Seed: "later", Bytes: mib}, 0); err == nil {
			t.Error("the restored volume holds what was written after the snapshot")
		}
		clone := copyOf(t, b, subdirectory(), v.Source(), v.Size)
		must(t, holds(clone, harness.Data{Seed: "later", Bytes: mib}, 0))
		must(t, store(clone, harness.Data{Seed: "own", Bytes: mib}, 0))
		for _, end := range []func(context.Context) error{s.Delete, v.Down, restored.Down, clone.Down} {
			must(t, end(ctx))
		}
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}
