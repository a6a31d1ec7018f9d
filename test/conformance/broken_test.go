package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	// brokenLimit is the deadline of calls to a datastore that doesn't answer; lateness what a call may take longer on a machine that
	// is busy. What hangs does so for ever.
	brokenLimit = 3 * time.Second
	lateness    = 30 * time.Second
)

// ten is a driver with the storage under test as the datastore "pool" and nine others that work.
func ten(t *testing.T, s rows.Storage) (b bench, healthy []string) {
	t.Helper()
	datastores := []harness.Datastore{s.Datastore(pool)}
	disk := harness.NewDisk(t, "ext4", 4*gib)
	for i := range 9 {
		name := fmt.Sprintf("healthy-%d", i)
		path := filepath.Join(disk.Path, name)
		must(t, os.Mkdir(path, 0o755))
		datastores = append(datastores, harness.Directory(name, path))
		healthy = append(healthy, name)
	}
	b = bench{Driver: harness.StartDriver(t, harness.Options{Datastores: datastores, Metrics: true}), Storage: s}
	for _, name := range append(slices.Clone(healthy), pool) {
		serving(t, b.Driver, name)
	}
	return b, healthy
}

// pace is how long a life takes on each of the datastores, one after the other.
func pace(t *testing.T, b bench, datastores []string) time.Duration {
	t.Helper()
	begin := time.Now()
	for _, name := range datastores {
		c := claim("ext4")
		c.Parameters = in(name)
		v := b.Volume(t, c)
		must(t, v.Up(t.Context()))
		must(t, tryWrite(v, v.Target))
		must(t, v.Down(t.Context()))
	}
	return time.Since(begin)
}

// undisturbed checks that the healthy datastores work at the speed that they had.
func undisturbed(t *testing.T, b bench, datastores []string, normal time.Duration) {
	t.Helper()
	if now := pace(t, b, datastores); now > 5*normal+lateness {
		t.Errorf("with one datastore broken the other nine take %v, %v without", now, normal)
	}
	if err := b.Ready(withLimit(t, lateness)); err != nil {
		t.Errorf("with one datastore broken the driver is not ready: %v", err)
	}
	for _, name := range datastores {
		if n, err := b.Available(withLimit(t, lateness), name); err != nil || n <= 0 {
			t.Errorf("with one datastore broken %s has %d bytes, %v", name, n, err)
		}
	}
	if _, err := b.Listed(withLimit(t, lateness)); err != nil {
		t.Errorf("with one datastore broken the volumes can't be listed: %v", err)
	}
}

// inTime makes a call to a datastore that is broken: it must end by its deadline, and must not succeed.
func inTime(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), brokenLimit)
	defer cancel()
	begin := time.Now()
	err := call(ctx)
	if took := time.Since(begin); took > brokenLimit+lateness {
		t.Errorf("%s ended after %v; its deadline was %v", what, took, brokenLimit)
	}
	refused(t, what, err, code(codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.FailedPrecondition))
}

func TestOneBrokenDatastoreOfTenDisturbsNoOther(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		for i, how := range row.Setup(t).Breakages() {
			t.Run(how.Name, func(t *testing.T) {
				t.Parallel()
				s := row.Setup(t)
				breakOne(t, s, s.Breakages()[i])
			})
		}
	})
}

func breakOne(t *testing.T, s rows.Storage, how rows.Breakage) {
	ctx := t.Context()
	b, healthy := ten(t, s)
	v, spare := b.Volume(t, claim("ext4")), b.Volume(t, blockClaim())
	must(t, v.Up(ctx))
	must(t, spare.Create(ctx))
	must(t, spare.Attach(ctx))
	d := harness.Data{Seed: "before", Bytes: mib}
	must(t, store(v, d, 0))
	normal := pace(t, b, healthy)
	footprint, err := b.Footprint()
	must(t, err)

	if how.Idle {
		must(t, v.Unpublish(ctx))
		must(t, v.Unstage(ctx))
	}
	b.Await = nil // it doesn't come
	mend := how.Break(t)
	inTime(t, "create on a broken datastore", b.Volume(t, blockClaim()).Create)
	if !how.Serves && !how.Hangs { // what hangs may do so only once it is written to
		inTime(t, "stage from a broken datastore", spare.Stage)
	}
	undisturbed(t, b, healthy, normal)
	for range 5 { // what hangs must not pile up
		inTime(t, "create on a broken datastore, again", b.Volume(t, blockClaim()).Create)
	}
	undisturbed(t, b, healthy, normal)
	if how.Hangs {
		mend()
	} else {
		must(t, harness.Eventually(ctx, settleLimit, func() error { return unhealthy(t, b) }))
		// A start with a broken datastore is a start.
		must(t, b.Crash(ctx))
		for _, name := range healthy {
			serving(t, b.Driver, name)
		}
		undisturbed(t, b, healthy, normal)
		inTime(t, "create on a broken datastore after a restart", b.Volume(t, blockClaim()).Create)
		mend()
	}
	serving(t, b.Driver, pool)
	if how.Idle {
		must(t, harness.Retry(ctx, v.Stage))
		must(t, v.Publish(ctx))
	}
	must(t, holds(v, d, 0))
	must(t, harness.Retry(ctx, spare.Stage))
	must(t, spare.Unstage(ctx))
	must(t, v.Down(ctx))
	must(t, spare.Detach(ctx))
	must(t, spare.Delete(ctx))
	leaveNone(t, b)
	if how.Hangs {
		nothingPilesUp(t, b, footprint)
	}
}

// unhealthy checks that the metrics show the datastore "pool" as worse than the others.
func unhealthy(t *testing.T, b bench) error {
	t.Helper()
	bad, err := b.Gauge(t.Context(), "health", pool)
	if err != nil {
		return err
	}
	good, err := b.Gauge(t.Context(), "health", "healthy-0")
	if err == nil && good == bad {
		err = errors.New("the metrics show a broken datastore as healthy")
	}
	return err
}

// leaveNone deletes what calls made that were told to come again, as a CO would that has lost interest.
func leaveNone(t *testing.T, b bench) {
	t.Helper()
	must(t, harness.Eventually(t.Context(), settleLimit, func() error {
		// Again and again: what was asked for while the storage was broken may be made only now.
		listed, err := b.Listed(t.Context())
		if err != nil {
			return err
		}
		for id := range listed {
			v := harness.Volume{Client: b.Client, ID: id, Host: b.Host}
			if err := v.Delete(t.Context()); err != nil {
				return err
			}
		}
		lying, err := b.Storage.Volumes()
		if err == nil && len(lying) > 0 {
			err = fmt.Errorf("all volumes are deleted, on the storage lie %v", lying)
		}
		return err
	}))
}
