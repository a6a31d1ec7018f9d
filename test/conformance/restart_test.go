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
)

// Unpublished, not unstaged, and the driver starts anew: the host still holds the volume.
func TestAVolumeThatIsStillStagedIsNotDeleted(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for _, c := range []harness.Claim{claim("xfs"), blockClaim()} {
			v := b.Volume(t, c)
			camera := b.camera(filepath.Dir(v.Staging))
			before := photograph(t, camera)
			must(t, v.Up(ctx))
			d := harness.Data{Seed: "held", Bytes: mib}
			must(t, store(v, d, 0))
			must(t, v.Unpublish(ctx))
			records := harness.Camera{Files: []string{b.StageRecords()}}
			staged := photograph(t, records)
			for _, start := range []func(context.Context) error{b.Restart, b.Crash} {
				must(t, start(ctx))
				if diff := staged.Diff(photograph(t, records)); diff != "" {
					t.Errorf("the start changed the stage records:\n%s", diff)
				}
				refused(t, "delete what is attached and staged", v.Delete(ctx), code(codes.FailedPrecondition), b.Host)
			}
			// Reach is one host: a detach is granted, and the mark of the host stays.
			must(t, v.Detach(ctx))
			refused(t, "delete what is detached and still staged", v.Delete(ctx), code(codes.FailedPrecondition), b.Host)
			must(t, b.Crash(ctx))
			// The start may have finished the unstaging, since the attachment is gone; then nothing is staged any more.
			must(t, v.Attach(ctx))
			must(t, v.Unstage(ctx))
			must(t, v.Stage(ctx))
			must(t, v.Publish(ctx))
			must(t, holds(v, d, 0))
			must(t, v.Down(ctx))
			must(t, camera.Settles(ctx, before, settleLimit))
		}
	})
}

// While the driver is away an administrator cleans up by hand, wholly or half.
func TestTheStartReconcilesWhatWasUndoneByHand(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		hand := map[string]func(v *harness.Volume) error{
			"nothing":                    func(*harness.Volume) error { return nil },
			"the target":                 func(v *harness.Volume) error { return unix.Unmount(v.Target, 0) },
			"target and staging path":    unmountBoth,
			"the staging path alone":     func(v *harness.Volume) error { return unix.Unmount(v.Staging, 0) },
			"all mounts and the folders": removeBoth,
		}
		for name, undo := range hand {
			for _, c := range []harness.Claim{claim("ext4"), blockClaim()} {
				if c.Block && name != "nothing" && name != "the target" {
					continue // a block volume's staging path bears no mount that is promised
				}
				t.Run(fmt.Sprintf("%s, block=%v", name, c.Block), func(t *testing.T) {
					v := b.Volume(t, c)
					camera := b.camera(filepath.Dir(v.Staging))
					before := photograph(t, camera)
					must(t, v.Up(ctx))
					d := harness.Data{Seed: "hand", Bytes: mib}
					must(t, store(v, d, 0))
					must(t, b.Kill())
					must(t, undo(v))
					must(t, b.Start(ctx))
					must(t, v.Unpublish(ctx))
					must(t, v.Unstage(ctx))
					must(t, os.MkdirAll(v.Staging, 0o750))
					must(t, v.Stage(ctx))
					must(t, v.Publish(ctx))
					must(t, holds(v, d, 0))
					must(t, v.Down(ctx))
					must(t, camera.Settles(ctx, before, settleLimit))
				})
			}
		}
	})
}

func unmountBoth(v *harness.Volume) error {
	if err := unix.Unmount(v.Target, 0); err != nil {
		return err
	}
	return unix.Unmount(v.Staging, 0)
}

func removeBoth(v *harness.Volume) error {
	if err := unmountBoth(v); err != nil {
		return err
	}
	if err := os.Remove(v.Target); err != nil {
		return err
	}
	return os.Remove(v.Staging)
}

// The pool's disk went away and is an empty mount point, or another disk: neither is taken for the pool.
func TestAPoolThatIsNotMountedIsNeverMadeAnew(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(ctx))
		d := harness.Data{Seed: "away", Bytes: mib}
		must(t, store(v, d, 0))
		must(t, v.Unpublish(ctx))
		must(t, v.Unstage(ctx))
		must(t, b.Stop())
		for _, initialize := range []bool{false, true} {
			document := b.Datastore(pool)
			if initialize {
				document = b.Initialized(pool)
			}
			must(t, b.SetDatastores(document))
			b.Await = nil // it doesn't come
			bringBack := b.TakeAway(t)
			empty := photograph(t, b.Storage.Camera())
			must(t, b.Start(ctx))
			refused(t, "create where the pool isn't", b.Volume(t, blockClaim()).Create(ctx), code(codes.Unavailable), pool)
			refused(t, "stage where the pool isn't", v.Stage(ctx), code(codes.Unavailable, codes.FailedPrecondition), pool)
			refused(t, "delete where the pool isn't", v.Delete(ctx), code(codes.Unavailable, codes.FailedPrecondition))
			if diff := empty.Diff(photograph(t, b.Storage.Camera())); diff != "" {
				t.Errorf("the empty mount point was taken for the pool:\n%s", diff)
			}
			bringBack()
			serving(t, b.Driver, pool) // without a restart
			must(t, harness.Retry(ctx, v.Stage))
			must(t, v.Publish(ctx))
			must(t, holds(v, d, 0))
			must(t, v.Unpublish(ctx))
			must(t, v.Unstage(ctx))
			must(t, b.Stop())
		}
		must(t, b.Start(ctx))
		must(t, harness.Retry(ctx, v.Detach))
		must(t, harness.Retry(ctx, v.Delete))
	})
}
