package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// noRoom checks that a claim is refused for want of room, with the reason, and that nothing of it is left.
func noRoom(t *testing.T, b bench, c harness.Claim, says ...string) {
	t.Helper()
	v := b.Volume(t, c)
	camera := b.Camera()
	before := photograph(t, camera)
	// A limit that was just changed is known once the pool was measured again.
	var err error
	must(t, harness.Eventually(t.Context(), settleLimit, func() error {
		if err = v.Create(t.Context()); err != nil {
			return nil //nolint:nilerr // the refusal that is waited for, judged below
		}
		return errors.Join(errors.New("it was made"), v.Delete(t.Context()))
	}))
	refused(t, "create without room", err, code(codes.ResourceExhausted), append(says, pool)...)
	listed, err := b.Listed(t.Context())
	must(t, err)
	if listed[v.Name] != nil {
		t.Errorf("the refused volume %s is listed", v.Name)
	}
	must(t, camera.Settles(t.Context(), before, settleLimit))
}

func TestAPoolIsFilledToItsPromiseAndNotPastIt(t *testing.T) {
	for _, provisioning := range []string{"thin", "thick"} {
		t.Run(provisioning, func(t *testing.T) {
			offered := func(c rows.Can) bool { return slices.Contains(c.Provisioning, provisioning) }
			onBenchesThat(t, offered, func(t *testing.T, b bench) { fillUp(t, b, provisioning) })
		})
	}
}

func fillUp(t *testing.T, b bench, provisioning string) {
	ctx := t.Context()
	used, err := b.Used()
	must(t, err)
	ask := blockClaim()
	ask.Parameters, ask.Bytes = in(pool, "provisioning", provisioning), b.Bytes()*3/20/(64*mib)*(64*mib)
	var made []*harness.Volume
	for {
		v := b.Volume(t, ask)
		err := v.Create(ctx)
		if status.Code(err) == codes.ResourceExhausted {
			refused(t, "the first without room", err, code(codes.ResourceExhausted), pool)
			break
		}
		must(t, err)
		if made = append(made, v); int64(len(made))*ask.Bytes > b.Bytes() {
			t.Fatalf("%d volumes of %d bytes are promised on a pool of %d", len(made), ask.Bytes, b.Bytes())
		}
	}
	if int64(len(made)+1)*ask.Bytes < b.Bytes()*7/10 {
		t.Errorf("a pool of %d bytes took only %d volumes of %d", b.Bytes(), len(made), ask.Bytes)
	}
	must(t, promised(ctx, b, int64(len(made))*ask.Bytes, len(made)))
	noRoom(t, b, ask)
	_, err = made[0].Expand(ctx, made[0].Size+2*ask.Bytes)
	refused(t, "expand without room", err, code(codes.OutOfRange, codes.ResourceExhausted))
	must(t, promised(ctx, b, int64(len(made))*ask.Bytes, len(made)))
	_, err = made[0].Expand(ctx, b.Bytes()*2)
	refused(t, "expand to more than the pool", err, code(codes.OutOfRange))

	must(t, made[0].Delete(ctx))
	again := b.Volume(t, ask)
	// What a delete gave back is there as soon as the driver has freed it.
	must(t, harness.Eventually(ctx, settleLimit, func() error { return again.Create(ctx) }))
	for _, v := range append(made[1:], again) {
		must(t, v.Delete(ctx))
	}
	must(t, promised(ctx, b, 0, 0))
	must(t, harness.Eventually(ctx, settleLimit, func() error { return backTo(b, used, int64(len(made)+1)) }))
}

func TestTheLimitsOfAPoolAreKept(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s := row.Setup(t)
		plain := s.Datastore(pool)
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{plain}, Await: []string{pool}, Metrics: true}), Storage: s}
		ask := blockClaim()
		ask.Bytes = s.Bytes() / 2
		v := b.Volume(t, ask)
		must(t, v.Create(ctx))

		t.Run("the number of volumes", func(t *testing.T) {
			reload(t, b.Driver, plain.With(1, "capacity", "maxVolumes"))
			one := blockClaim()
			noRoom(t, b, one, "1")
		})
		t.Run("a reserve as a share", func(t *testing.T) {
			reload(t, b.Driver, plain.With("40%", "capacity", "reserve"))
			third := ask
			third.Bytes = s.Bytes() / 4
			noRoom(t, b, third)
		})
		t.Run("a reserve in bytes", func(t *testing.T) {
			reload(t, b.Driver, plain.With(fmt.Sprint(s.Bytes()/2), "capacity", "reserve"))
			third := ask
			third.Bytes = s.Bytes() / 4
			noRoom(t, b, third)
		})
		t.Run("a cordon", func(t *testing.T) {
			reload(t, b.Driver, plain.With("Cordon", "maintenance"))
			noRoom(t, b, blockClaim(), "cordon")
			must(t, v.Attach(ctx))
			must(t, v.Stage(ctx))
			must(t, v.Publish(ctx))
			must(t, v.Unpublish(ctx))
			must(t, v.Unstage(ctx))
			must(t, v.Detach(ctx))
		})
		reload(t, b.Driver, plain)
		serving(t, b.Driver, pool)
		must(t, v.Delete(ctx))
	})
}

// reload gives the driver another file and waits until it works by it: the last datastore in it is a sign.
func reload(t *testing.T, d *harness.Driver, datastores ...harness.Datastore) {
	t.Helper()
	sign := "sign-" + strings.ToLower(harness.NewName()[4:12])
	path := harness.Dir(t)
	must(t, d.SetDatastores(append(datastores, harness.Directory(sign, path))...))
	must(t, harness.Eventually(t.Context(), settleLimit, func() error {
		// A datastore that isn't known is INVALID_ARGUMENT; once it is known so is the rest of the file.
		ask := harness.Claim{Name: "sign", Block: true, Bytes: 1 << 50, Parameters: in(sign)}
		if _, err := d.CreateVolume(t.Context(), ask.Request()); status.Code(err) == codes.InvalidArgument {
			return err
		}
		return nil
	}))
}

func TestACriticalPoolPromisesNothingNewAndServesWhatItHas(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		healthy, err := b.Gauge(ctx, "health", pool)
		must(t, err)
		empty := b.Fill(t, b.Bytes()*3/100) // 97% are used, 95% are critical
		small := blockClaim()
		small.Bytes = max(mib, b.Can().Granularity)
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			other := b.Volume(t, small)
			err := other.Create(ctx)
			if err == nil {
				return errors.Join(errors.New("a critical pool took a volume"), other.Delete(ctx))
			}
			if status.Code(err) != codes.ResourceExhausted {
				return err
			}
			return nil
		}))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			now, err := b.Gauge(ctx, "health", pool)
			if err == nil && now == healthy {
				err = errors.New("the health of a critical pool is that of a healthy one")
			}
			return err
		}))
		must(t, v.Attach(ctx))
		must(t, v.Stage(ctx))
		must(t, v.Publish(ctx))
		must(t, tryWrite(v, v.Target))
		must(t, v.Down(ctx)) // a full pool must be able to delete
		empty()
		serving(t, b.Driver, pool)
	})
}

// A pool that has no block left: the writer of a thin volume gets an error, and no one else's data suffers. What is thick has its
// space already.
func TestWhenThePoolIsReallyFullOnlyTheWriterIsToldSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		quiet, loud := b.Volume(t, claim("ext4")), b.Volume(t, claim("ext4"))
		loud.Bytes = 512 * mib
		must(t, quiet.Up(ctx))
		must(t, loud.Up(ctx))
		kept := harness.Data{Seed: "kept", Bytes: 4 * mib}
		must(t, store(quiet, kept, 0))
		must(t, store(loud, kept, 0))
		empty := b.Fill(t, 32*mib)
		if err := store(loud, harness.Data{Seed: "too much", Bytes: 256 * mib}, 0); !b.Can().Thin() {
			must(t, err)
		} else if err == nil {
			t.Error("256 MiB went into 32")
		} else if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
			t.Errorf("writing to a full pool: %v", err)
		}
		must(t, holds(quiet, kept, 0))
		for _, v := range []*harness.Volume{loud, quiet} { // a full pool detaches
			must(t, v.Unpublish(ctx))
			must(t, v.Unstage(ctx))
		}
		empty()
		for _, v := range []*harness.Volume{loud, quiet} {
			// A file system that saw errors is checked or refused (S19), never given out damaged.
			if err := harness.Retry(ctx, v.Stage); err != nil {
				refused(t, "stage after the pool was full", err, code(codes.FailedPrecondition), "fsck")
				must(t, v.Unstage(ctx))
			} else {
				must(t, v.Publish(ctx))
				must(t, holds(v, kept, 0))
				must(t, v.Unpublish(ctx))
				must(t, v.Unstage(ctx))
			}
			must(t, v.Detach(ctx))
			must(t, v.Delete(ctx))
		}
	})
}

func TestAFullVolumeIsItsOwnersAffair(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for fs := range rows.Filesystems() {
			v := b.Volume(t, claim(fs))
			must(t, v.Up(ctx))
			err := (harness.Data{Seed: "big", Bytes: v.Size}).WriteFile(filepath.Join(v.Target, "big"))
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%s: writing more than a volume: %v", fs, err)
			}
			stats(t, v)
			// Full and grown, it takes more.
			grow(t, v, v.Size+200*mib, true)
			d := harness.Data{Seed: "more", Bytes: 20 * mib}
			if !harness.GrowsMounted(fs) {
				must(t, os.Truncate(filepath.Join(v.Target, "big"), 0))
			}
			must(t, store(v, d, 0))
			must(t, os.Remove(filepath.Join(v.Target, "big")))
			must(t, holds(v, d, 0))
			must(t, v.Down(ctx))
		}
	})
}
