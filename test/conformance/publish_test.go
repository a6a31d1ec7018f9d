package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// A pod's target is bound to the staged volume or to nothing.
func TestAPublishNeverBindsThePlainDirectory(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for _, c := range []harness.Claim{claim("ext4"), blockClaim()} {
			v := b.Volume(t, c)
			must(t, v.Create(ctx))
			must(t, v.Attach(ctx))
			noTarget := func(when string, err error) {
				t.Helper()
				refused(t, "publish "+when, err, code(codes.FailedPrecondition))
				if _, err := os.Lstat(v.Target); !os.IsNotExist(err) {
					t.Errorf("publish %s left its target: %v", when, err)
				}
			}
			noTarget("without stage", v.Publish(ctx))
			must(t, v.Stage(ctx))
			elsewhere := *v
			elsewhere.Staging = harness.Dir(t)
			noTarget("from a staging path where it isn't staged", elsewhere.Publish(ctx))
			if c.Block {
				must(t, v.Publish(ctx))
				must(t, v.Down(ctx))
				continue
			}
			// As after a reboot, or an administrator's umount: the record stands, the mount is gone.
			must(t, unix.Unmount(v.Staging, 0))
			noTarget("from a staging path that lost its mount", v.Publish(ctx))
			must(t, unix.Mount("tmpfs", v.Staging, "tmpfs", 0, "size=1m"))
			noTarget("from a staging path with a stranger's mount", v.Publish(ctx))
			must(t, unix.Unmount(v.Staging, 0))
			must(t, v.Stage(ctx)) // puts it right
			must(t, v.Publish(ctx))
			must(t, tryWrite(v, v.Target))
			must(t, v.Down(ctx))
		}
	})
}

func TestAnUnmountedStagingPathTakesNoStrayWrites(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, v.Attach(ctx))
		must(t, v.Stage(ctx))
		must(t, unix.Unmount(v.Staging, 0))
		info, err := os.Stat(v.Staging)
		must(t, err)
		if err := os.WriteFile(filepath.Join(v.Staging, "stray"), nil, 0o600); err == nil && info.Mode().Perm() != 0 {
			t.Errorf("an unmounted staging path has mode %v and takes a file", info.Mode())
		}
		_ = os.Remove(filepath.Join(v.Staging, "stray")) // where root may do all, mode 000 still stops a pod
		must(t, v.Unstage(ctx))
		must(t, v.Detach(ctx))
		must(t, v.Delete(ctx))
	})
}

// What somebody left in a target: reported, and left alone.
func TestLeftoversInATargetAreLeftAlone(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, v.Attach(ctx))
		must(t, v.Stage(ctx))
		must(t, os.Mkdir(v.Target, 0o750))
		left := harness.Data{Seed: "left behind", Bytes: mib}
		must(t, store(v, left, 0))
		// Hidden beneath the mount or refused; it shows once the mount is gone.
		refused(t, "publish where something lies", v.Publish(ctx), code(codes.OK, codes.FailedPrecondition, codes.InvalidArgument))
		refused(t, "unpublish where something lies", v.Unpublish(ctx), code(codes.FailedPrecondition, codes.Internal), v.Target)
		refused(t, "unpublish again", v.Unpublish(ctx), code(codes.FailedPrecondition, codes.Internal), v.Target)
		must(t, holds(v, left, 0))
		must(t, os.RemoveAll(v.Target))
		must(t, v.Publish(ctx))
		must(t, v.Unpublish(ctx))
		must(t, v.Down(ctx))
	})
}

func TestATargetInUseIsUnpublishedAllTheSameOrSaysSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(ctx))
		path := filepath.Join(v.Target, "open")
		f, err := os.Create(path)
		must(t, err)
		first := v.Unpublish(ctx)
		refused(t, "unpublish what a process holds open", first, code(codes.OK, codes.FailedPrecondition, codes.Aborted, codes.Unavailable, codes.Internal))
		_, err = f.WriteString("still mine")
		must(t, errors.Join(err, f.Sync(), f.Close()))
		must(t, v.Unpublish(ctx))
		must(t, v.Unstage(ctx))
		must(t, v.Stage(ctx))
		must(t, v.Publish(ctx))
		if text, err := os.ReadFile(path); err != nil || string(text) != "still mine" {
			t.Errorf("what was written until the end reads %q, %v", text, err)
		}
		must(t, v.Down(ctx))
	})
}
