package conformance

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

func TestTwoClustersDontShareAPool(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s, own := row.Setup(t), row.Setup(t)
		first := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}, ClusterID: "red"})
		v := first.Volume(t, claim("ext4"))
		must(t, v.Up(ctx))
		d := harness.Data{Seed: "red", Bytes: mib}
		must(t, store(v, d, 0))
		must(t, v.Unpublish(ctx))
		must(t, v.Unstage(ctx))
		must(t, v.Detach(ctx))
		camera := s.Camera()
		before := photograph(t, camera)

		// The second cluster's driver has every chance to do harm: initialize is set, it is killed, it is asked to
		// delete what it never made.
		datastores := []harness.Datastore{s.Initialized(pool), own.Datastore("own")}
		second := harness.StartDriver(t, harness.Options{Datastores: datastores, ClusterID: "blue", Host: "host-2"})
		serving(t, second, "own")
		c := claim("ext4")
		refused(t, "create on another cluster's pool", second.Volume(t, c).Create(ctx), code(codes.Unavailable), "cluster")
		stolen := *v
		stolen.Client, stolen.Host = second.Client, second.Host
		refused(t, "attach another cluster's volume", stolen.Attach(ctx), code(codes.NotFound))
		must(t, stolen.Delete(ctx)) // not there, as far as it can know
		must(t, second.Crash(ctx))
		must(t, stolen.Delete(ctx))
		serving(t, second, "own")
		listed, err := second.Listed(ctx)
		must(t, err)
		if len(listed) > 0 {
			t.Errorf("the second cluster lists %v", listed)
		}
		must(t, second.Stop())
		if diff := before.Diff(photograph(t, camera)); diff != "" {
			t.Errorf("the second cluster changed the pool:\n%s", diff)
		}

		must(t, first.Restart(ctx))
		must(t, harness.Retry(ctx, v.Attach))
		must(t, v.Stage(ctx))
		must(t, v.Publish(ctx))
		must(t, holds(v, d, 0))
		must(t, v.Down(ctx))
	})
}

func TestADriverThatLostItsRecordsTakesNothingForItsOwn(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s := row.Setup(t)
		first := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
		v := first.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, first.Stop())
		camera := s.Camera()
		before := photograph(t, camera)
		// The same cluster and host with an empty state: the pool is adopted, what lies on it stays.
		second := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
		serving(t, second, pool)
		other := second.Volume(t, claim("xfs"))
		must(t, other.Up(ctx))
		must(t, other.Down(ctx))
		again := *v
		again.Client = second.Client
		if err := again.Create(ctx); err == nil { // a volume of its own, beside the old one
			must(t, again.Delete(ctx))
		}
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}
